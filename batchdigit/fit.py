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
   border, and those near it that are too large for specks.
5. *Normalisation,* at four times the final resolution: strokes thinner or thicker than those of
   MNIST are dilated or eroded (their width is four times their mean distance from the
   background), then box, centre of mass, and reduction by averaging, as above.

Arrays are [H, W], uint8, in which ink is bright and background is near 0, unless it says otherwise.
OpenCV does the work on pixels: it has connected components, a distance transform and grey-scale
morphology, at a few microseconds a call on images of 28x28.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from batchdigit.errors import ImageError
from batchdigit.records import Digit, Treatment

Pixels: TypeAlias = NDArray[np.uint8]

SIZE = 28
DIGIT = 20  # the larger side of a digit in it
FINE = 4  # times the final resolution, for the normalisation
PAGE = 256  # the larger side of the reduced picture in which the digit is looked for
CLOSE = 96  # the larger side that a digit should have in it, in pixels, if the picture has as many
THUMBNAIL = 64
SURFACE = 32  # the side of the grid on which the background's surface is fitted
LEAST = 5  # pixels a side, below which there is no telling what a picture shows
TINY = 24  # in pictures of less than this side a surface would follow the digit
SMALL = 40  # pictures of up to this side have neither noise worth a filter nor room for shadows
SEPARATION = 3.2  # of ink and background in standard deviations; halves of noise have 2.6
FAINTEST = 8  # grey levels between ink and background
# Width of strokes in MNIST at FINE times its resolution: the middle 90% of its training images.
THINNEST, THICKEST = 10.0, 18.0


def fit(grey: Pixels) -> Digit:
    """Find the digit of a grey picture uint8[H, W] and bring it to 28x28.

    Raises ImageError (``blank``) when there are no strokes.
    """
    if min(grey.shape) < LEAST:
        raise _blank()
    page = shrink(grey, PAGE)
    dark = ink_is_dark(page)
    ink, base, floor = _ink(~page if dark else page)
    strokes, contrast, crowded = _find_strokes(ink, floor)
    x, y, w, h = cv2.boundingRect(strokes)
    share = cv2.countNonZero(strokes) / strokes.size

    if page is not grey and max(w, h) < CLOSE:
        ink, strokes = _look_closer(grey, dark, strokes, (x, y, w, h))
        base, contrast = 0.0, max(1.0, _brightness(ink, strokes, 0.75))
        x, y, w, h = cv2.boundingRect(cv2.compare(ink, base + 0.4 * (contrast - base), cv2.CMP_GT))
        if not w:
            raise _blank()
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
        middle = (_percentile(thumbnail, 0.5) + _percentile(border(thumbnail), 0.5)) / 2
        lighter, darker = cv2.subtract(thumbnail, middle), cv2.subtract(middle, thumbnail)
    return cv2.norm(darker, cv2.NORM_L2) >= cv2.norm(lighter, cv2.NORM_L2)


def border(image: Pixels) -> Pixels:
    """The outermost pixels, [2(H + W)]; corners count twice."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


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
        raise _blank()  # a threshold between values that belong together
    base = min(_percentile(ink, 0.5), mean)
    peak = float(cv2.minMaxLoc(ink if small else cv2.blur(ink, (3, 3)))[1])
    floor = base + max(FAINTEST, 5 * deviation, 0.15 * (peak - base))
    if peak <= floor + FAINTEST / 2:
        raise _blank()
    return ink, base, floor


def _noise(image: Pixels) -> float:
    """The standard deviation of noise, from the smaller deviations from a median of 3x3.

    In a normal distribution 40% of all values are within 0.52 standard deviations of the mean.
    """
    deviations = cv2.absdiff(image, cv2.medianBlur(image, 3))
    return _percentile(deviations, 0.4) / 0.52


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


def _find_strokes(ink: Pixels, floor: float) -> tuple[Pixels, float, bool]:
    """The mask (0 or 1) of the digit's strokes, how bright its ink is, whether there is more."""
    mask = cv2.threshold(ink, floor, 1, cv2.THRESH_BINARY)[1]
    if min(ink.shape) > SMALL:
        parts = _Parts(mask)
        mask = parts.mask_of(parts.main())
    threshold = max(floor, 0.38 * _brightness(ink, mask))
    parts = _Parts(cv2.threshold(ink, threshold, 1, cv2.THRESH_BINARY)[1])
    if parts.cross():
        parts = _Parts(without_lines(parts.mask))
    main = parts.main()
    belonging = parts.belonging_to(main)
    strokes = parts.mask_of(main, *belonging)
    return strokes, _brightness(ink, strokes), parts.others(main, belonging)


class _Parts:
    """The connected parts of a mask (0 or 1), 8-connected; ``stats`` int32[N, 5] as in OpenCV."""

    def __init__(self, mask: Pixels) -> None:
        self.mask = mask
        # 16 bits take a third of the time that 32 do, and count all parts that a page can have.
        found, self._labels, stats, centres = cv2.connectedComponentsWithStats(
            mask, ltype=cv2.CV_16U
        )
        if found == 1:
            raise _blank()
        self.stats, self._centres = stats[1:], centres[1:]

    def __len__(self) -> int:
        return len(self.stats)

    def cross(self) -> bool:
        """Whether some part runs from edge to edge."""
        h, w = self.mask.shape
        _, _, width, height = cv2.boundingRect(self.mask)
        if width < 0.9 * w and height < 0.9 * h:
            return False
        _, _, widths, heights, _ = self.stats.T
        return bool((widths >= 0.9 * w).any() or (heights >= 0.9 * h).any())

    def main(self) -> int:
        """The digit, or most of it: large, central, and no dirt that runs along the border."""
        if len(self) == 1:
            return 0
        h, w = self.mask.shape
        _, _, widths, heights, areas = self.stats.T
        sizes = np.maximum(widths, heights)
        off = ((self._centres / (w, h) - 0.5) ** 2).sum(axis=1)
        along = np.bincount(border(self._labels), minlength=len(self) + 1)[1:]
        score = np.sqrt(areas) * sizes * np.exp(-4 * off)
        score *= np.where(along > 0, 0.35, 1) * np.where(along >= 0.6 * sizes, 0.2, 1)
        return int(score.argmax())

    def belonging_to(self, main: int) -> list[int]:
        """Parts near the main one that are no specks: strokes of the same digit."""
        if len(self) == 1:
            return []
        h, w = self.mask.shape
        x, y, widths, heights, areas = self.stats.T
        sizes = np.maximum(widths, heights)
        right, bottom = x + widths, y + heights
        across = np.maximum(0, np.maximum(x - right[main], x[main] - right))
        down = np.maximum(0, np.maximum(y - bottom[main], y[main] - bottom))
        at_border = (x == 0) | (y == 0) | (right == w) | (bottom == h)
        reach = np.where(at_border & ~at_border[main], 0.06, 0.25) * sizes[main]
        near = np.hypot(across, down) <= reach
        alike = (areas >= 0.02 * areas[main]) & (sizes >= 0.08 * sizes[main])
        near &= alike & (sizes <= 1.3 * sizes[main])
        near[main] = False
        return [int(part) for part in np.flatnonzero(near)]

    def others(self, main: int, belonging: list[int]) -> bool:
        """Whether there is another digit: a part as large as one, or as tall right beside it."""
        if len(self) == 1:
            return False
        h, w = self.mask.shape
        x, y, widths, heights, areas = self.stats.T
        sizes = np.maximum(widths, heights)
        large = (sizes >= 0.5 * sizes[main]) & (areas >= 0.25 * areas[main])
        large &= (x > 0) & (y > 0) & (x + widths < w) & (y + heights < h)
        large[[main, *belonging]] = False
        beside = (x >= x[main] + widths[main]) | (x + widths <= x[main])
        beside &= (heights >= 0.6 * heights[main]) & (areas >= 0.25 * areas[main])
        return bool(large.any() or beside[belonging].any())

    def mask_of(self, *parts: int) -> Pixels:
        """The mask of some parts."""
        if len(parts) == len(self):
            return self.mask
        if len(parts) == 1:
            return cv2.inRange(self._labels, parts[0] + 1, parts[0] + 1) & 1
        chosen = np.zeros(len(self) + 1, np.uint8)
        chosen[[part + 1 for part in parts]] = 1
        return chosen[self._labels]


def without_lines(mask: Pixels) -> Pixels:
    """The mask without the lines of ruled or squared paper."""
    rows = _without_rows(mask)
    return np.ascontiguousarray(_without_rows(np.ascontiguousarray(rows.T)).T)


def _without_rows(mask: Pixels) -> Pixels:
    """The mask without thin horizontal lines from edge to edge, but where a stroke crosses one."""
    h, w = mask.shape
    if min(h, w) < TINY:
        return mask
    # Lines that are slightly tilted, or whose edge is ragged, have no long runs of their own.
    thick = cv2.dilate(mask, np.ones((3, 1), np.uint8))
    runs = cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, max(9, w // 4)), np.uint8))
    found, labels, stats, _ = cv2.connectedComponentsWithStats(runs)
    lines, thickness, count = np.zeros_like(mask), 0.0, 0
    for label in range(1, found):
        x, _, width, _, _ = stats[label]
        if x > 1 + 0.02 * w or x + width < 0.98 * w - 1:
            continue
        line = cv2.inRange(labels, label, label) & mask
        if cv2.countNonZero(line) / width <= max(1.6, 0.03 * max(h, w)):
            lines |= line
            thickness = max(thickness, cv2.countNonZero(line) / width)
            count += 1
    if not count:
        return mask
    rest = mask & ~lines
    x, _, width, _ = cv2.boundingRect(rest)
    if count == 1 and (x < 0.05 * w or x + width > 0.95 * w):
        return mask  # a stroke of a digit that fills the picture
    reach = int(np.ceil(thickness)) + 2
    column = np.ones((2 * reach + 1, 1), np.uint8)
    above = cv2.dilate(rest, column, anchor=(0, 2 * reach))
    below = cv2.dilate(rest, column, anchor=(0, 0))
    return rest | (lines & above & below)


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
    return cv2.copyTo(ink, near), near


def _brightness(ink: Pixels, strokes: Pixels, share: float = 0.9) -> float:
    return _percentile(ink[strokes.view(np.bool_)], share)


def normalise(strokes: Pixels, side: int) -> Pixels:
    """Strokes whose larger side is ``side`` pixels, as MNIST has them: uint8[28, 28]."""
    factor = FINE * DIGIT / side
    h, w = strokes.shape
    size = max(1, round(w * factor)), max(1, round(h * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    fine = _of_usual_width(cv2.resize(strokes, size, interpolation=how))
    _, _, w, h = cv2.boundingRect(cv2.compare(fine, 127, cv2.CMP_GT))
    if not w:
        raise _blank()
    factor = FINE * DIGIT / max(w, h)
    if abs(factor - 1) > 0.05:
        h, w = fine.shape
        fine = cv2.resize(fine, (max(1, round(w * factor)), max(1, round(h * factor))))
    return cv2.resize(_centred(fine), (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _of_usual_width(fine: Pixels) -> Pixels:
    inside = cv2.threshold(fine, 127, 1, cv2.THRESH_BINARY)[1]
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


def _percentile(values: Pixels, share: float) -> float:
    """The value that a share of all values is not above."""
    place = int(share * (values.size - 1))
    if values.size <= 4096:
        return float(np.partition(values.ravel(), place)[place])
    counts = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel().cumsum()
    return float(counts.searchsorted(place, side="right"))


def _blank() -> ImageError:
    return ImageError("blank", "no strokes found")


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
