"""From a picture of a handwritten digit, however it was made, to what MNIST's digits look like.

Its makers say what that is (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"): white strokes on
black, scaled with their proportions kept until they fit a box of 20x20 pixels, antialiased, and
placed with their centre of mass in the middle of 28x28 (see ``_centred``). The steps are:

1. *Polarity.* Ink covers the smaller part of a picture. So what deviates from the median of its
   surroundings is ink, and the sign of the deviation says whether it is dark or light.
2. *Background.* A quadratic surface through the background takes out uneven light; a grey-scale
   opening wider than any stroke (the top-hat transform: F. Meyer, "Iterative image transformations
   for an automatic screening of cervical smears", 1979) takes out what is left of it.
3. *Ink.* A threshold at a share of the strokes' own contrast, above the noise. Lines that run from
   edge to edge and are thinner than a stroke are ruled paper.
4. *Strokes.* The connected part that is large, central and does not run along the border, and the
   parts near it that are too large for specks. Boxes and rings around a digit are left out. What
   turns out to be a sheet of paper is treated as a picture of its own.
5. *Normalisation,* at four times the final resolution: strokes thinner or thicker than those of
   MNIST are dilated or eroded (their width is four times their mean distance from the
   background), then box, centre of mass, and reduction by averaging, as above.

Arrays are uint8[H, W], in which ink is bright and background is near 0, unless it says otherwise.
OpenCV does the work on pixels: it has connected components, a distance transform and grey-scale
morphology, at a few microseconds a call on images of 28x28.
"""

from __future__ import annotations

import contextlib

import cv2
import numpy as np

from batchdigit.batches import Digit, Treatment
from batchdigit.errors import ImageError
from batchdigit.images.ink import find_ink, ink_is_dark, shrink, without_background
from batchdigit.images.normalise import normalise
from batchdigit.images.strokes import (
    INK,
    TINY,
    Pixels,
    blank,
    border,
    brightness,
    fills_its_sides,
    find_strokes,
    percentile,
)

PAGE = 256  # the larger side of the reduced picture in which the digit is searched for
CLOSE = 96  # the larger side that a digit should have in it, in pixels, if the picture has as many
MIN_SIDE = 5  # pixels; nobody can tell what a smaller picture shows
MIN_FRAME = 50  # grey levels by which a frame differs from the paper


def fit(grey: Pixels, tries: int = 3) -> Digit:
    """Find the digit of a grey picture uint8[H, W] and bring it to 28x28.

    Specks are taken out and the picture is looked at again, in at most so many ``tries``.

    Raises ImageError (``blank``) where there are no strokes.
    """
    if min(grey.shape) < MIN_SIDE:
        raise blank()
    page = shrink(grey, PAGE)
    if rim := _rim(page):
        grey = _inside(grey, round(rim * max(grey.shape) / max(page.shape)))
        page = shrink(grey, PAGE)
    dark = ink_is_dark(page)
    ink, base, floor = find_ink(~page if dark else page)
    strokes, contrast, crowded = find_strokes(ink, floor)
    x, y, w, h = cv2.boundingRect(strokes)
    if _is_sheet(strokes, (x, y, w, h)):
        crowded = True  # unless there is a digit on the sheet
        with contextlib.suppress(ImageError):
            return fit(_cut_out(grey, strokes.shape, (x, y, w, h)))
    share = cv2.countNonZero(strokes) / strokes.size

    as_bright = cv2.compare(ink, max(floor, INK * contrast), cv2.CMP_GT)
    side, scale = max(w, h), max(grey.shape) / max(page.shape)
    if page is not grey and side < CLOSE:
        ink, strokes, scale = _look_closer(grey, dark, strokes, (x, y, w, h))
        base, contrast = 0.0, brightness(ink, strokes)
        x, y, w, h = cv2.boundingRect(strokes)
    if max(w, h) * scale < MIN_SIDE:
        if tries == 1:
            raise blank()
        return fit(_without_specks(grey, page, as_bright, max(side, MIN_SIDE - 1)), tries - 1)
    around = cv2.dilate(strokes, _BOX3)  # keeps the soft edges of the strokes
    ink = cv2.copyTo(ink, around)[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1]
    gain = 255 / (0.75 * max(contrast - base, 1.0))
    stretched = cv2.convertScaleAbs(cv2.subtract(ink, base + 0.1 * (contrast - base)), None, gain)
    return Digit(normalise(stretched, max(w, h)), _TREATMENTS[dark, crowded], share)


def _without_specks(grey: Pixels, page: Pixels, mask: Pixels, side: int) -> Pixels:
    """The picture without the specks that may hide fainter strokes.

    Each part of ``mask``, which is one of the page, whose larger side has at most ``side`` pixels
    is replaced by its surroundings.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    small = stats[:, cv2.CC_STAT_WIDTH : cv2.CC_STAT_HEIGHT + 1].max(axis=1) <= side
    small[0] = False  # what is around the parts
    specks = cv2.dilate(small[labels].astype(np.uint8), _BOX3)
    around = cv2.medianBlur(page, 2 * side + 3)
    size = grey.shape[1], grey.shape[0]
    there = cv2.resize(specks, size, interpolation=cv2.INTER_NEAREST)
    return np.where(there, cv2.resize(around, size), grey)


def _rim(page: Pixels) -> int:
    """The width of the even rim of another brightness that a picture may have, or 0.

    It is the edge of a scanner's lid, or a printed or drawn frame. There must be paper inside it,
    because around a digit that fills the picture the rim may be the paper.
    """
    level = percentile(page, 0.5)
    ring, width, max_width = border(page), 0, min(page.shape) // 6
    if abs(percentile(ring, 0.5) - level) < MIN_FRAME:
        return 0
    while width < max_width and np.count_nonzero(abs(ring - level) >= MIN_FRAME) > 0.9 * ring.size:
        width += 1
        ring = border(_inside(page, width))
    width += 1  # and its soft edge
    if min(page.shape) - 2 * width < MIN_SIDE:
        return 0
    ring = border(_inside(page, width))
    return width if np.count_nonzero(abs(ring - level) < MIN_FRAME) > 0.9 * ring.size else 0


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
    """What is well inside a box on the page, which is the picture or a reduced copy of it."""
    factor = max(grey.shape) / max(page)
    x, y, w, h = box
    rim = 1 + 0.04 * max(w, h)
    left, right = round((x + rim) * factor), round((x + w - rim) * factor)
    top, bottom = round((y + rim) * factor), round((y + h - rim) * factor)
    return np.ascontiguousarray(grey[top:bottom, left:right])


def _look_closer(
    grey: Pixels, dark: bool, strokes: Pixels, box: tuple[int, int, int, int]
) -> tuple[Pixels, Pixels, float]:
    """Ink and strokes of a small digit, from the picture before it was reduced.

    And how many pixels of the picture, in a row, one of them stands for.
    """
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
    whole = max(part.shape)
    part = shrink(np.ascontiguousarray(part), int(CLOSE * max(part.shape) / factor / max(w, h)))
    ink = without_background(~part if dark else part)
    size = part.shape[1], part.shape[0]
    near = cv2.resize(strokes[top:bottom, left:right], size, interpolation=cv2.INTER_NEAREST)
    reach = max(1, round(0.5 * size[0] / (right - left)))
    near = cv2.dilate(near, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    # Strokes thinner than a pixel of the page cover less than half of what is near them.
    threshold, _ = cv2.threshold(ink[near.view(np.bool_)], 0, 255, cv2.THRESH_OTSU)
    bright = near & (cv2.compare(ink, threshold, cv2.CMP_GT) & 1)
    if not bright.any():
        raise blank()
    strokes = cv2.compare(ink, INK * brightness(ink, bright), cv2.CMP_GT)
    return cv2.copyTo(ink, near), near & strokes, whole / max(part.shape)


_TREATMENTS = {
    (dark, crowded): Treatment.FITTED | Treatment.DARK * dark | Treatment.CROWDED * crowded
    for dark in (False, True)
    for crowded in (False, True)
}
_BOX3 = np.ones((3, 3), np.uint8)
