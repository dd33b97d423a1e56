"""The strokes of a digit among all that is on a picture: other ink, specks, dirt, rules, frames.

Arrays are uint8[H, W], as in :mod:`batchdigit.images.fit`; masks hold 0 and 1.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from batchdigit.errors import ImageError

Pixels: TypeAlias = NDArray[np.uint8]

TINY = 24  # pixels; in a picture with a shorter side a surface would follow the digit
SMALL = 40  # pixels; up to this side there is neither noise worth a filter nor room for shadows
INK = 0.38  # the share of the strokes' brightness from which on a pixel belongs to them
MAX_FRAMES = 3  # around one digit
DIRECTIONS = 36  # a ring must have pixels in all of them


def find_strokes(ink: Pixels, floor: float) -> tuple[Pixels, float, bool]:
    """The mask (0 or 1) of the digit's strokes, their brightness, whether there is other ink."""
    mask = cv2.threshold(ink, floor, 1, cv2.THRESH_BINARY)[1]
    if min(ink.shape) > SMALL:
        parts = Parts(mask)
        mask = parts.mask_of(parts.main())
    threshold = max(floor, INK * brightness(ink, mask))
    parts = Parts(cv2.threshold(ink, threshold, 1, cv2.THRESH_BINARY)[1])
    if parts.cross():
        parts = Parts(without_lines(parts.mask))
    main = parts.main()
    belonging = parts.belonging_to(main)
    strokes = parts.mask_of(main, *belonging)
    return strokes, brightness(ink, strokes), parts.others(main, belonging)


class Parts:
    """The connected parts of a mask (0 or 1), 8-connected; ``stats`` int32[N, 5] as in OpenCV."""

    def __init__(self, mask: Pixels) -> None:
        self.mask = mask
        # 16 bits take a third of the time of 32, and can count all parts that a page can have.
        found, self._labels, stats, centres = cv2.connectedComponentsWithStats(
            mask, ltype=cv2.CV_16U
        )
        if found == 1:
            raise blank()
        self.stats, self._centres = stats[1:], centres[1:]
        self._frames, self._rings = self._find_frames()

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

    def _find_frames(self) -> tuple[list[int], list[int]]:
        """Parts around another one: boxes, on all four sides, and rings, in all directions."""
        frames: list[int] = []
        rings: list[int] = []
        if len(self) == 1:
            return frames, rings
        x, y, widths, heights, areas = self.stats.T
        right, bottom = x + widths, y + heights
        for part in np.argsort(widths * heights)[: -1 - MAX_FRAMES : -1].tolist():
            inside = (x > x[part]) & (y > y[part]) & (right < right[part]) & (bottom < bottom[part])
            inside &= heights >= 0.25 * heights[part]
            sheet = areas[part] > 0.5 * widths[part] * heights[part]
            if sheet or not inside.any():
                continue
            box = self._labels[y[part] : bottom[part], x[part] : right[part]] == part + 1
            if fills_its_sides(box):
                frames.append(part)
            else:
                content = int((areas * inside).argmax())
                down, across = np.nonzero(box)
                middle = self._centres[content] - (x[part], y[part])
                angles = np.arctan2(down - middle[1], across - middle[0])
                bins = np.bincount(((angles + np.pi) * (DIRECTIONS / 2 / np.pi)).astype(int))
                if np.count_nonzero(bins[:DIRECTIONS]) == DIRECTIONS:
                    rings.append(part)
        return frames, rings

    def main(self) -> int:
        """The digit, or most of it: large, central, and not dirt that runs along the border."""
        if len(self) == 1:
            return 0
        h, w = self.mask.shape
        _, _, widths, heights, areas = self.stats.T
        sizes = np.maximum(widths, heights)
        off = ((self._centres / (w, h) - 0.5) ** 2).sum(axis=1)
        along = self._along()
        score = np.sqrt(areas) * sizes * np.exp(-4 * off)
        score *= np.where(along > 0, 0.35, 1) * np.where(along >= 0.6 * sizes, 0.2, 1)
        score[[*self._frames, *self._rings]] = 0
        return int(score.argmax())

    def belonging_to(self, main: int) -> list[int]:
        """Parts near the main one that are not specks: strokes of the same digit."""
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
        near[[main, *self._frames, *self._rings]] = False
        return [int(part) for part in np.flatnonzero(near)]

    def others(self, main: int, belonging: list[int]) -> bool:
        """Whether there is more than one digit: another one, a ring around it, a line of text."""
        if len(self) == 1:
            return False
        h, w = self.mask.shape
        x, y, widths, heights, areas = self.stats.T
        sides = np.maximum(widths, heights)
        sizes = sides / sides[main]
        shares = areas / areas[main]
        right, bottom = x + widths, y + heights
        at_border = (x == 0) | (y == 0) | (right == w) | (bottom == h)
        # Dirt and shadows lie along the border; what the border cuts off only touches it.
        strange = (sizes >= 0.1) & ~(
            at_border & (self._along() >= 0.6 * np.maximum(widths, heights))
        )
        strange[[main, *belonging, *self._frames]] = False
        figures = strange & (sizes >= np.where(at_border, 0.5, 0.3))
        figures &= shares >= np.where(at_border, 0.25, 0.1)
        text = (shares * (strange & ~at_border & (shares >= 0.01))).sum() >= 0.25
        apart = (x >= right[main]) | (right <= x[main]) | (y >= bottom[main]) | (bottom <= y[main])
        digits = apart & (heights >= 0.6 * heights[main]) & (shares >= 0.25)
        return bool(self._rings or figures.any() or text or digits[belonging].any())

    def _along(self) -> NDArray[np.int64]:
        """How many pixels of each part lie on the border."""
        return np.bincount(border(self._labels), minlength=len(self) + 1)[1:]

    def mask_of(self, *parts: int) -> Pixels:
        """The mask of some parts."""
        if len(parts) == len(self):
            return self.mask
        if len(parts) == 1:
            return cv2.inRange(self._labels, parts[0] + 1, parts[0] + 1) & 1
        chosen = np.zeros(len(self) + 1, np.uint8)
        chosen[[part + 1 for part in parts]] = 1
        return chosen[self._labels]


def fills_its_sides(box: NDArray[np.bool_]) -> bool:
    """Whether a part, cut out along its box, runs along all, or nearly all, of each side."""
    across, down = (max(2, side // 16) for side in box.shape)
    sides = box[:across], box[-across:], box[:, :down].T, box[:, -down:].T
    return bool(min(side.any(axis=0).mean() for side in sides) >= 0.8)


def without_lines(mask: Pixels) -> Pixels:
    """The mask without the lines of ruled or squared paper."""
    rows = _without_rows(mask)
    return np.ascontiguousarray(_without_rows(np.ascontiguousarray(rows.T)).T)


def _without_rows(mask: Pixels) -> Pixels:
    """The mask without thin horizontal lines from edge to edge, except where strokes cross them."""
    h, w = mask.shape
    if min(h, w) < TINY:
        return mask
    # Lines that are slightly tilted, or whose edge is ragged, have no long runs before this.
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


def brightness(ink: Pixels, strokes: Pixels) -> float:
    """How bright the ink of strokes (a mask) is."""
    return percentile(ink[strokes.view(np.bool_)], 0.9)


def border(image: Pixels) -> Pixels:
    """The outermost pixels, [2(H + W)]; each corner stands there twice."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def percentile(values: Pixels, share: float) -> float:
    """The value that ``share`` (0 to 1) of all values do not exceed."""
    place = int(share * (values.size - 1))
    if values.size <= 4096:
        return float(np.partition(values.ravel(), place)[place])
    counts = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel().cumsum()
    return float(counts.searchsorted(place, side="right"))


def blank() -> ImageError:
    """The error for a picture without strokes."""
    return ImageError("blank", "no strokes found")
