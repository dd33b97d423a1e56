"""Telling ink from paper: polarity, background, threshold.

The first three of the steps that :mod:`batchdigit.images.fit` describes.
"""

from __future__ import annotations

import cv2
import numpy as np

from batchdigit.images.strokes import SMALL, TINY, Pixels, blank, border, percentile

THUMBNAIL = 64
SURFACE = 32  # the side of the grid on which the background's surface is fitted
SEPARATION = 3.2  # standard deviations between ink and background; two halves of noise have 2.6
CLEAR = 14  # the same, from which on it is no noise; noise that was cut off at black has up to 13
# How much of its spread ink keeps when it is blurred. Noise keeps a third, and up to 0.47 by chance
# in a small box. Digits that are not clear, because of noise as strong as 1/3 of them, have 0.45
# at least, and nearly all 0.55.
GRAIN = 0.44
MIN_CONTRAST = 8  # grey levels between ink and background


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


def ink_is_dark(page: Pixels) -> bool:
    """Whether the ink of a picture is darker than its background.

    The ink is on that side of the median on which the squared deviations are larger. In a small
    picture the median is that of the whole and of its border. In a large one it is that of the
    surroundings of each pixel, which a shadow does not mislead.
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


def find_ink(light: Pixels) -> tuple[Pixels, float, float]:
    """The ink, its background level, and the lowest level that is more than noise.

    ``light`` is the picture with bright ink. Raises ImageError where nothing stands out.
    """
    small = min(light.shape) <= SMALL
    deviation = 0.0
    if not small:
        deviation = _noise(light)
        width, gain = (5, 3) if deviation > 5 else (3, 2)
        light = cv2.GaussianBlur(light, (width, width), 0)
        deviation /= gain
    ink = without_background(light)
    threshold, _ = cv2.threshold(ink, 0, 255, cv2.THRESH_OTSU)
    below = cv2.compare(ink, threshold, cv2.CMP_LE)
    mean, spread = (value.item() for value in cv2.meanStdDev(ink, mask=below))
    apart = cv2.mean(ink, ~below)[0] - mean
    if small and (apart < SEPARATION * spread or (apart < CLEAR * spread and _is_grain(ink))):
        raise blank()  # a threshold between values that belong together
    base = min(percentile(ink, 0.5), mean)
    # A pixel alone, as of dust, is no peak: in small pictures a neighbour has to be as bright.
    seen = cv2.min(ink, cv2.dilate(ink, _NEIGHBOURS)) if small else cv2.blur(ink, (3, 3))
    peak = float(cv2.minMaxLoc(seen)[1])
    floor = base + max(MIN_CONTRAST, 5 * deviation, 0.15 * (peak - base))
    if peak <= floor + MIN_CONTRAST / 2:
        raise blank()
    return ink, base, floor


def _is_grain(ink: Pixels) -> bool:
    """Whether pixels have nothing to do with their neighbours, as those of strokes have."""
    x, y, w, h = cv2.boundingRect(ink)
    part = ink[y : y + h, x : x + w]
    blurred = cv2.meanStdDev(cv2.blur(part, (3, 3)))[1].item()
    return blurred < GRAIN * cv2.meanStdDev(part)[1].item()


def _noise(image: Pixels) -> float:
    """The standard deviation of noise, from the smaller deviations from a 3x3 median.

    In a normal distribution 40% of all values are within 0.52 standard deviations of the mean.
    """
    deviations = cv2.absdiff(image, cv2.medianBlur(image, 3))
    return percentile(deviations, 0.4) / 0.52


def without_background(light: Pixels) -> Pixels:
    """Bright ink on a background near 0, without uneven light and what is wider than strokes."""
    light = _evenly_lit(light)
    side = min(light.shape)
    # Wider than strokes, which fill a larger share of a small picture.
    width = max(3, int(side * (0.5 if side < 100 else 0.33))) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (width, width))
    return cv2.subtract(light, cv2.morphologyEx(light, cv2.MORPH_OPEN, kernel))


def _evenly_lit(light: Pixels) -> Pixels:
    """The picture without the quadratic surface that its background follows, if it follows one."""
    if min(light.shape) < TINY:
        return light
    edge = np.sort(border(light))
    if int(edge[-1 - len(edge) // 4]) - int(edge[len(edge) // 8]) < MIN_CONTRAST / 2:
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


_Y, _X = np.mgrid[-1 : 1 : SURFACE * 1j, -1 : 1 : SURFACE * 1j].reshape(2, -1).astype(np.float32)
_SURFACES = np.stack([np.ones_like(_X), _X, _Y, _X * _X, _Y * _Y, _X * _Y])
_RIDGE = 1e-3 * np.eye(len(_SURFACES), dtype=np.float32)
_ALL_OF_IT = np.linalg.solve(_SURFACES @ _SURFACES.T + _RIDGE, _SURFACES)
_NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
