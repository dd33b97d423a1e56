"""Digits of MNIST as other people's files might show them, to train and test a model on.

A variant is a picture of the same digit in another hand (slant, proportions, width of the pen, and
the European 1 and 7, which are rare in MNIST), on other paper (its grey, uneven light, shadows,
rules, grain, specks), at another size and place, through another file (binary, JPEG). Every choice
comes from the generator that is passed in, so that the same generator gives the same variant.

Arrays are uint8[H, W]; strokes are white on black until they are put on paper.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from batchdigit.images.strokes import Pixels
from batchdigit.models.spec import MNIST

ENLARGED = 8  # times as many pixels, to draw on
ROOM = 60  # pixels around a digit, so that a distortion moves no stroke out of the picture


def variant(digit: Pixels, label: int, random: Generator) -> Pixels:
    """A picture uint8[H, W] of ``digit`` uint8[28, 28], which shows ``label``."""
    return on_paper(placed(in_another_hand(digit, label, random), random), random)


def in_another_hand(digit: Pixels, label: int, random: Generator) -> Pixels:
    """The strokes, cropped to their box, about 160 pixels high."""
    strokes = cv2.resize(digit, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    if label == 7 and random.random() < 0.3:
        _cross(strokes, random)
    if label == 1 and random.random() < 0.45:
        _add_serifs(strokes, random)
    strokes = _distorted(cv2.copyMakeBorder(strokes, *(ROOM,) * 4, cv2.BORDER_CONSTANT), random)
    strokes = _with_another_pen(strokes, random)
    x, y, w, h = cv2.boundingRect(cv2.compare(strokes, 127, cv2.CMP_GT))
    return strokes[y : y + h, x : x + w] if w else digit


def _cross(strokes: Pixels, random: Generator) -> None:
    """Draw the bar of a crossed 7."""
    _, y, _, h = cv2.boundingRect(cv2.compare(strokes, 127, cv2.CMP_GT))
    height = int(y + h * random.uniform(0.42, 0.62))
    stem = np.flatnonzero(strokes[min(height, len(strokes) - 1)] > 127)
    if len(stem):
        half = h * random.uniform(0.18, 0.34)
        tilt = half * random.uniform(-0.25, 0.15)
        start = int(stem.mean() - half), int(height + tilt)
        end = int(stem.mean() + half), int(height - tilt)
        cv2.line(strokes, start, end, 255, int(random.uniform(8, 22)), cv2.LINE_AA)


def _add_serifs(strokes: Pixels, random: Generator) -> None:
    """Draw the upstroke of a European 1, its foot, or both."""
    ink = strokes > 127
    _, y, _, h = cv2.boundingRect(ink.view(np.uint8))
    if h < 100:
        return
    tops, bottoms = np.flatnonzero(ink[y + 3]), np.flatnonzero(ink[y + h - 4])
    if not len(tops) or not len(bottoms):
        return
    top, bottom = tops.mean(), bottoms.mean()
    pen = int(np.clip(ink.sum() / h * random.uniform(0.7, 1.1), 6, 26))
    if random.random() < 0.85:
        length, angle = h * random.uniform(0.2, 0.5), random.uniform(0.5, 1.15)
        end = int(top - length * np.sin(angle)), int(y + pen / 2 + length * np.cos(angle))
        cv2.line(strokes, (int(top), int(y + pen / 2)), end, 255, pen, cv2.LINE_AA)
    if random.random() < 0.4:
        half = h * random.uniform(0.15, 0.4)
        tilt = half * random.uniform(-0.12, 0.12)
        foot = y + h - pen / 2
        start, end = (int(bottom - half), int(foot + tilt)), (int(bottom + half), int(foot - tilt))
        cv2.line(strokes, start, end, 255, pen, cv2.LINE_AA)


def _distorted(strokes: Pixels, random: Generator) -> Pixels:
    """The strokes stretched, slanted and turned about the middle."""
    side = len(strokes)
    (stretch_x, stretch_y), slant = np.exp(random.normal(0, 0.12, 2)), random.normal(0, 0.18)
    angle = random.normal(0, 0.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[stretch_x, slant], [0, stretch_y]])
    middle = np.full(2, side / 2)
    return cv2.warpAffine(strokes, np.c_[matrix, middle - matrix @ middle], (side, side))


def _with_another_pen(strokes: Pixels, random: Generator) -> Pixels:
    """Strokes 0.72 to 2 times as wide, as drawn by a round or a square tip."""
    ink = cv2.threshold(strokes, 127, 1, cv2.THRESH_BINARY)[1]
    width = 4 * cv2.mean(cv2.distanceTransform(ink, cv2.DIST_L2, 3), ink)[0]
    wanted = np.exp(random.uniform(np.log(8), np.log(46)))
    radius = round((np.clip(wanted, 0.72 * width, 2 * width) - width) / 2)
    tip = cv2.MORPH_RECT if random.random() < 0.25 else cv2.MORPH_ELLIPSE
    kernel = cv2.getStructuringElement(tip, (2 * abs(radius) + 1,) * 2)
    return cv2.dilate(strokes, kernel) if radius > 0 else cv2.erode(strokes, kernel)


def placed(strokes: Pixels, random: Generator) -> Pixels:
    """The strokes at some size on a canvas of some size: a box, a drawing or a page."""
    style = random.random()
    if style < 0.16:
        return _boxed(strokes, random)
    if style < 0.5:
        side = int(random.choice([*[MNIST.size[0]] * 3, 32, 50, 64]))
        size = side * random.uniform(0.36, 0.98)
    else:
        side = int(np.exp(random.uniform(np.log(64), np.log(320))))
        size = side * np.exp(random.uniform(np.log(0.16), np.log(0.95)))
    small = _resized(strokes, size / max(strokes.shape), jagged=random.random() < 0.1)
    if random.random() < 0.15:
        small = _binary(small, 127)
    canvas = _on_canvas(small, side, float(random.choice([1, 1, 1, 0.75, 1.33])), random)
    if random.random() < 0.3:
        blur = random.uniform(0.4, max(0.5, min(1.1, size / 22)))
        canvas = cv2.GaussianBlur(canvas, (0, 0), blur)
    return canvas


def _boxed(strokes: Pixels, random: Generator) -> Pixels:
    """The strokes cropped and scaled to a small box, which they sometimes fill, as in USPS."""
    side = int(random.choice([16, 16, 16, 20, 24, 32]))
    h, w = strokes.shape
    width = side if w > h else max(3, round(side * w / h))
    height = side if h > w else max(3, round(side * h / w))
    if random.random() < 0.5 and w > 0.45 * h:
        width = height = side
    small = cv2.resize(strokes, (width, height), interpolation=cv2.INTER_AREA)
    if random.random() < 0.5:
        small = _binary(small, random.uniform(90, 150))
    rim = int(random.choice([0, 0, 0, 1, 2]))
    canvas = np.zeros((side + 2 * rim, side + 2 * rim), np.uint8)
    top, left = (side - height) // 2 + rim, (side - width) // 2 + rim
    canvas[top : top + height, left : left + width] = small
    return cv2.GaussianBlur(canvas, (3, 3), 0) if random.random() < 0.2 else canvas


def _resized(strokes: Pixels, factor: float, *, jagged: bool) -> Pixels:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    h, w = strokes.shape
    size = max(2, int(w * factor)), max(2, int(h * factor))
    return cv2.resize(strokes, size, interpolation=cv2.INTER_NEAREST if jagged else how)


def _binary(image: Pixels, threshold: float) -> Pixels:
    return cv2.threshold(image, threshold, 255, cv2.THRESH_BINARY)[1]


def _on_canvas(small: Pixels, side: int, aspect: float, random: Generator) -> Pixels:
    h, w = small.shape
    height, width = max(side, h), max(int(side * aspect), w)
    canvas = np.zeros((height, width), np.uint8)
    reach = random.uniform(0, 0.8)
    top, left = (
        int(np.clip(free * (1 + random.uniform(-reach, reach)), 0, 2 * free))
        for free in ((height - h) / 2, (width - w) / 2)
    )
    canvas[top : top + h, left : left + w] = small
    return canvas


def on_paper(strokes: Pixels, random: Generator) -> Pixels:
    """A drawing or a photo of the strokes; a quarter are light on dark, some went through JPEG."""
    image = (drawn if random.random() < 0.35 else photographed)(strokes, random)
    if random.random() < 0.25:
        image = ~image
    if random.random() < 0.3 and min(image.shape) >= 16:
        image = through_jpeg(image, int(random.integers(40, 95)))
    return image


def drawn(strokes: Pixels, random: Generator) -> Pixels:
    """Ink of one grey on paper of another, mostly black on white."""
    ink, paper = 0, 255
    if random.random() < 0.2:
        one, other = sorted(int(grey) for grey in random.integers(0, 256, 2))
        if other - one >= 60:
            ink, paper = one, other
    return cv2.convertScaleAbs(strokes, None, -(paper - ink) / 255, paper)


def photographed(strokes: Pixels, random: Generator) -> Pixels:
    """Ink on paper in some light, with grain and noise."""
    h, w = strokes.shape
    paper, depth = random.uniform(110, 250), random.uniform(0.3, 0.9)
    light = np.ones((h, w), np.float32)
    if random.random() < 0.6:
        light += _slope(h, w, random.uniform(-0.35, 0.35), random.uniform(-0.35, 0.35))
    if min(h, w) > 40 and random.random() < 0.25:
        light *= shadow(h, w, random)
    if min(h, w) > 60 and random.random() < 0.2:
        light *= rules(h, w, depth * random.uniform(0.05, 0.3), random)
    ink = strokes.astype(np.float32) / 255
    if random.random() < 0.4:  # pencil
        ink *= np.clip(1 + 0.15 * random.standard_normal((h, w)), 0.3, 1)
    image = paper * light * (1 - depth * ink)
    image += random.standard_normal((h, w)) * random.uniform(0, 6)
    if min(h, w) > 60 and random.random() < 0.2:
        for _ in range(int(random.integers(1, 6))):
            y, x = int(random.integers(h)), int(random.integers(w))
            image[y : y + 2, x : x + 2] = random.uniform(0, 255)
    return image.clip(0, 255).astype(np.uint8)


def _slope(h: int, w: int, across: float, down: float) -> NDArray[np.float32]:
    y, x = np.mgrid[-0.5 : 0.5 : h * 1j, -0.5 : 0.5 : w * 1j]
    return (across * x + down * y).astype(np.float32)


def shadow(h: int, w: int, random: Generator) -> NDArray[np.float32]:
    """Factors float32[h, w] of a shadow with a soft straight edge."""
    angle = random.uniform(0, 2 * np.pi)
    edge = _slope(h, w, float(np.cos(angle)), float(np.sin(angle))) + random.uniform(-0.3, 0.3)
    dark = random.uniform(0.1, 0.5)
    softness = random.uniform(0.03, 0.2)
    return (1 - dark / (1 + np.exp(-edge / softness))).astype(np.float32)


def rules(h: int, w: int, depth: float, random: Generator) -> NDArray[np.float32]:
    """Factors float32[h, w] of ruled paper, sometimes squared."""
    factors = np.ones((h, w), np.float32)
    distance, pen = int(random.uniform(0.12, 0.4) * h), max(1, h // 100)
    for start in range(int(random.integers(distance)), h, distance):
        factors[start : start + pen] *= 1 - depth
    if random.random() < 0.4:
        for start in range(int(random.integers(distance)), w, distance):
            factors[:, start : start + pen] *= 1 - depth
    return factors


def through_jpeg(image: Pixels, quality: int) -> Pixels:
    """The picture after JPEG compression at ``quality``, 0 to 100."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))
