"""From a picture of a handwritten digit, however it was made, to what MNIST's digits look like.

What that is, its makers say (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"): white strokes
on black, scaled with their proportions kept until they fit a box of 20x20 pixels, antialiased, and
placed with their centre of mass in the middle of 28x28 (see _centred). The way there:

1. *Polarity.* Ink covers the smaller part of a picture, so what deviates from the median of its
   surroundings is ink, and the sign of the deviation says whether it is dark or light.
2. *Background.* A quadratic surface through the background takes out uneven light; a grey-scale
   opening wider than any stroke (the top-hat transform: F. Meyer, "Iterative image transformations
   for an automatic screening of cervical smears", 1979) takes out what is left of it.
3. *Ink.* A threshold at a share of the strokes' own contrast, above the noise. Lines that run from
   edge to edge and are thinner than a stroke are ruled paper.
4. *Strokes.* Of the connected parts, the one that is large, central and does not run along the
   border, and those near it that are too large for specks. Boxes and rings around a digit are left
   out; what turns out to be a sheet of paper is looked at for itself.
5. *Normalisation,* at four times the final resolution: strokes thinner or thicker than those of
   MNIST are dilated or eroded (their width is four times their mean distance from the
   background), then box, centre of mass, and reduction by averaging, as above.

Arrays are [H, W], uint8, in which ink is bright and background is near 0, unless it says otherwise.
OpenCV does the work on pixels: it has connected components, a distance transform and grey-scale
morphology, at a few microseconds a call on images of 28x28.
"""

from __future__ import annotations

import contextlib

import cv2
import numpy as np

from batchdigit.batches import Digit, Treatment
from batchdigit.errors import ImageError
from batchdigit.strokes import (
    INK,
    SMALL,
    TINY,
    Pixels,
    blank,
    border,
    brightness,
    fills_its_sides,
    find_strokes,
    percentile,
)

SIZE = 28
DIGIT = 20  # the larger side of a digit in it
FINE = 4  # times the final resolution, for the normalisation
PAGE = 256  # the larger side of the reduced picture in which the digit is looked for
CLOSE = 96  # the larger side that a digit should have in it, in pixels, if the picture has as many
THUMBNAIL = 64
SURFACE = 32  # the side of the grid on which the background's surface is fitted
LEAST = 5  # pixels a side, below which there is no telling what a picture shows
SEPARATION = 3.2  # of ink and background in standard deviations; halves of noise have 2.6
FAR = 50  # grey levels from the paper to what frames it, at least
FAINTEST = 8  # grey levels between ink and background
# Width of strokes in MNIST at FINE times its resolution: the middle 90% of its training images.
THINNEST, THICKEST = 10.0, 18.0


def fit(grey: Pixels) -> Digit:
    """Find the digit of a grey picture uint8[H, W] and bring it to 28x28.

    Raises ImageError (``blank``) when there are no strokes.
    """
    if min(grey.shape) < LEAST:
        raise blank()
    page = shrink(grey, PAGE)
    if rim := _rim(page):
        grey = _inside(grey, round(rim * max(grey.shape) / max(page.shape)))
        page = shrink(grey, PAGE)
    dark = ink_is_dark(page)
    ink, base, floor = _ink(~page if dark else page)
    strokes, contrast, crowded = find_strokes(ink, floor)
    x, y, w, h = cv2.boundingRect(strokes)
    if _is_sheet(strokes, (x, y, w, h)):
        crowded = True  # if it is none
        with contextlib.suppress(ImageError):
            return fit(_cut_out(grey, strokes.shape, (x, y, w, h)))
    share = cv2.countNonZero(strokes) / strokes.size

    if page is not grey and max(w, h) < CLOSE:
        ink, strokes = _look_closer(grey, dark, strokes, (x, y, w, h))
        base, contrast = 0.0, brightness(ink, strokes)
        x, y, w, h = cv2.boundingRect(strokes)
    around = cv2.dilate(strokes, _BOX3)  # keeps the soft edges of the strokes
    ink = cv2.copyTo(ink, around)[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1]
    gain = 255 / (0.75 * max(contrast - base, 1.0))
    stretched = cv2.convertScaleAbs(cv2.subtract(ink, base + 0.1 * (contrast - base)), None, gain)
    return Digit(normalise(stretched, max(w, h)), _TREATMENTS[dark, crowded], share)


def shrink(grey: Pixels, side: int) -> Pixels:
    """The picture itself, or reduced by averaging so that its larger side is ``side``."""
    h, w = grey.shape
    if max(h, w) <= side:
        return grey
    while max(h, w) >= 2 * side and min(h, w) > 1:  # halving takes a tenth of the time
        grey = cv2.resize(grey[: h & ~1, : w & ~1], (w // 2, h // 2), interpolation=cv2.INTER_AREA)
        h, w = grey.shape
    factor = side / max(h, w)
    size = max(1, round(w * factor)), max(1, round(h * factor))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _rim(page: Pixels) -> int:
    """How wide the even rim is, all around and of another brightness, that a picture may have.

    It is the edge of a scanner's lid, or a printed or drawn frame. Inside of it there has to be
    paper: with a digit that fills the picture, it may be the paper.
    """
    level = percentile(page, 0.5)
    ring, width, most = border(page), 0, min(page.shape) // 6
    if abs(percentile(ring, 0.5) - level) < FAR:
        return 0
    while width < most and np.count_nonzero(abs(ring - level) >= FAR) > 0.9 * ring.size:
        width += 1
        ring = border(_inside(page, width))
    width += 1  # and its soft edge
    if min(page.shape) - 2 * width < LEAST:
        return 0
    ring = border(_inside(page, width))
    return width if np.count_nonzero(abs(ring - level) < FAR) > 0.9 * ring.size else 0


def _inside(image: Pixels, rim: int) -> Pixels:
    return np.ascontiguousarray(image[rim:-rim, rim:-rim])


def _is_sheet(strokes: Pixels, box: tuple[int, int, int, int]) -> bool:
    """Whether what was taken for strokes is a sheet of paper on something darker, or the like."""
    x, y, w, h = box
    part = strokes[y : y + h, x : x + w]
    large = w >= 0.4 * strokes.shape[1] and h >= 0.4 * strokes.shape[0] and min(w, h) >= TINY
    even = max(w, h) < 2.5 * min(w, h) and cv2.countNonZero(part) > 0.6 * part.size
    return large and even and fills_its_sides(part.view(np.bool_))


def _cut_out(grey: Pixels, page: tuple[int, ...], box: tuple[int, int, int, int]) -> Pixels:
    """What is well inside of a box on the page, which is the picture or a reduced copy of it."""
    factor = max(grey.shape) / max(page)
    x, y, w, h = box
    rim = 1 + 0.04 * max(w, h)
    left, right = round((x + rim) * factor), round((x + w - rim) * factor)
    top, bottom = round((y + rim) * factor), round((y + h - rim) * factor)
    return np.ascontiguousarray(grey[top:bottom, left:right])


def ink_is_dark(page: Pixels) -> bool:
    """Whether the ink of a picture is darker than its background.

    The side of the median on which there is more, squared, is the ink's. In a small picture the
    median is that of the whole and of its border; in a large one, of the surroundings of each
    pixel, which a shadow does not mislead.
    """
    thumbnail = shrink(page, THUMBNAIL)
    if min(thumbnail.shape) > SMALL:
        background = cv2.medianBlur(thumbnail, min(thumbnail.shape) // 2 | 1)
        lighter, darker = (
            cv2.subtract(thumbnail, background),
            cv2.subtract(background, thumbnail),
        )
    else:
        middle = (percentile(thumbnail, 0.5) + percentile(border(thumbnail), 0.5)) / 2
        lighter, darker = cv2.subtract(thumbnail, middle), cv2.subtract(middle, thumbnail)
    return cv2.norm(darker, cv2.NORM_L2) >= cv2.norm(lighter, cv2.NORM_L2)


def _ink(light: Pixels) -> tuple[Pixels, float, float]:
    """Ink on a background of about ``base``, and the least that is more than noise.

    ``light`` is the picture with bright ink. Raises ImageError where nothing stands out.
    """
    small = min(light.shape) <= SMALL
    deviation = 0.0
    if not small:
        deviation = _noise(light)
        width, gain = (5, 3) if deviation > 5 else (3, 2)
        light = cv2.GaussianBlur(light, (width, width), 0)
        deviation /= gain
    ink = _without_background(light)
    threshold, _ = cv2.threshold(ink, 0, 255, cv2.THRESH_OTSU)
    below = cv2.compare(ink, threshold, cv2.CMP_LE)
    mean, spread = (value.item() for value in cv2.meanStdDev(ink, mask=below))
    if small and cv2.mean(ink, ~below)[0] - mean < SEPARATION * spread:
        raise blank()  # a threshold between values that belong together
    base = min(percentile(ink, 0.5), mean)
    peak = float(cv2.minMaxLoc(ink if small else cv2.blur(ink, (3, 3)))[1])
    floor = base + max(FAINTEST, 5 * deviation, 0.15 * (peak - base))
    if peak <= floor + FAINTEST / 2:
        raise blank()
    return ink, base, floor


def _noise(image: Pixels) -> float:
    """The standard deviation of noise, from the smaller deviations from a median of 3x3.

    In a normal distribution 40% of all values are within 0.52 standard deviations of the mean.
    """
    deviations = cv2.absdiff(image, cv2.medianBlur(image, 3))
    return percentile(deviations, 0.4) / 0.52


def _without_background(light: Pixels) -> Pixels:
    light = _evenly_lit(light)
    side = min(light.shape)
    # Wider than strokes, which take up more of a small picture.
    width = max(3, int(side * (0.5 if side < 100 else 0.33))) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (width, width))
    return cv2.subtract(light, cv2.morphologyEx(light, cv2.MORPH_OPEN, kernel))


def _evenly_lit(light: Pixels) -> Pixels:
    """The picture without the quadratic surface that its background follows, if it does."""
    if min(light.shape) < TINY:
        return light
    edge = np.sort(border(light))
    if int(edge[-1 - len(edge) // 4]) - int(edge[len(edge) // 8]) < FAINTEST / 2:
        return light
    h, w = light.shape
    grid = cv2.resize(light, (SURFACE, SURFACE), interpolation=cv2.INTER_AREA)
    values = grid.reshape(-1).astype(np.float32)
    coefficients = _ALL_OF_IT @ values
    for _ in range(2):
        rest = values - coefficients @ _SURFACES
        levels = (rest - rest.min()).clip(0, 255).astype(np.uint8)
        threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
        background = levels <= threshold
        weighted = _SURFACES * background
        coefficients = np.linalg.solve(weighted @ _SURFACES.T + _RIDGE, weighted @ values)
    surface = coefficients @ _SURFACES
    left = (values - surface)[background].std()
    if left > 0.6 * values[background].std():
        return light
    surface -= surface.min()
    whole = cv2.resize(surface.reshape(SURFACE, SURFACE), (w, h))
    return cv2.subtract(light, cv2.convertScaleAbs(whole))


def _look_closer(
    grey: Pixels, dark: bool, strokes: Pixels, box: tuple[int, int, int, int]
) -> tuple[Pixels, Pixels]:
    """Ink and strokes around a small digit, from the picture before it was reduced."""
    x, y, w, h = box
    height, width = strokes.shape
    margin = max(4, max(w, h) // 4)
    left, right = max(0, x - margin), min(width, x + w + margin)
    top, bottom = max(0, y - margin), min(height, y + h + margin)
    factor = max(grey.shape) / max(strokes.shape)
    part = grey[
        int(top * factor) : int(np.ceil(bottom * factor)),
        int(left * factor) : int(np.ceil(right * factor)),
    ]
    part = shrink(np.ascontiguousarray(part), int(CLOSE * max(part.shape) / factor / max(w, h)))
    ink = _without_background(~part if dark else part)
    size = part.shape[1], part.shape[0]
    near = cv2.resize(strokes[top:bottom, left:right], size, interpolation=cv2.INTER_NEAREST)
    reach = max(1, round(0.5 * size[0] / (right - left)))
    near = cv2.dilate(near, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    # Strokes thinner than a pixel of the page are the smaller part of what is near.
    threshold, _ = cv2.threshold(ink[near.view(np.bool_)], 0, 255, cv2.THRESH_OTSU)
    bright = near & (cv2.compare(ink, threshold, cv2.CMP_GT) & 1)
    if not bright.any():
        raise blank()
    strokes = cv2.compare(ink, INK * brightness(ink, bright), cv2.CMP_GT)
    return cv2.copyTo(ink, near), near & strokes


def normalise(strokes: Pixels, side: int) -> Pixels:
    """Strokes whose larger side is ``side`` pixels, as MNIST has them: uint8[28, 28]."""
    factor = FINE * DIGIT / side
    h, w = strokes.shape
    size = max(1, round(w * factor)), max(1, round(h * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    fine = _of_usual_width(cv2.resize(strokes, size, interpolation=how))
    _, _, w, h = cv2.boundingRect(cv2.compare(fine, 127, cv2.CMP_GT))
    if not w:
        raise blank()
    factor = FINE * DIGIT / max(w, h)
    if abs(factor - 1) > 0.05:
        h, w = fine.shape
        fine = cv2.resize(fine, (max(1, round(w * factor)), max(1, round(h * factor))))
    return cv2.resize(_centred(fine), (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _of_usual_width(fine: Pixels) -> Pixels:
    inside = cv2.threshold(fine, 127, 1, cv2.THRESH_BINARY)[1]
    # With a rim: without any background there would be no distance to it.
    inside = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distances = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    width = 4 * cv2.mean(distances, inside)[0]
    radius = round((min(max(width, THINNEST), THICKEST) - width) / 2)
    if radius == 0 or width == 0:
        return fine
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(radius) + 1,) * 2)
    if radius < 0:
        return cv2.erode(fine, kernel)
    return cv2.dilate(cv2.copyMakeBorder(fine, *(radius,) * 4, cv2.BORDER_CONSTANT), kernel)


def _centred(fine: Pixels) -> Pixels:
    """The strokes on a square of SIZE times FINE, their centre of mass where MNIST has it.

    That is the middle of pixel 14, counted from 0, half a pixel from the middle of the 28.
    """
    side = SIZE * FINE
    centre = (SIZE / 2 + 0.5) * FINE - 0.5
    moments = cv2.moments(fine)
    left = round(centre - moments["m10"] / moments["m00"])
    top = round(centre - moments["m01"] / moments["m00"])
    square = np.zeros((side, side), np.uint8)
    x, y = max(0, left), max(0, top)
    part = fine[y - top : side - top, x - left : side - left]
    square[y : y + part.shape[0], x : x + part.shape[1]] = part
    return square


_TREATMENTS = {
    (dark, crowded): Treatment.FITTED | Treatment.DARK * dark | Treatment.CROWDED * crowded
    for dark in (False, True)
    for crowded in (False, True)
}
_BOX3 = np.ones((3, 3), np.uint8)
_Y, _X = np.mgrid[-1 : 1 : SURFACE * 1j, -1 : 1 : SURFACE * 1j].reshape(2, -1).astype(np.float32)
_SURFACES = np.stack([np.ones_like(_X), _X, _Y, _X * _X, _Y * _Y, _X * _Y])
_RIDGE = 1e-3 * np.eye(len(_SURFACES), dtype=np.float32)
_ALL_OF_IT = np.linalg.solve(_SURFACES @ _SURFACES.T + _RIDGE, _SURFACES)
