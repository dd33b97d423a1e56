"""The strokes of the digit are told apart from everything else in a picture."""

import cv2
import numpy as np
import pytest

from batchdigit.errors import ImageError
from batchdigit.images.strokes import (
    Parts,
    border,
    brightness,
    fills_its_sides,
    find_strokes,
    percentile,
    without_lines,
)
from tests.support.pictures import Pixels

RNG = np.random.default_rng(0)


def page(*boxes: tuple[int, int, int, int], side: int = 100) -> Pixels:
    """A mask with filled rectangles: x, y, width, height."""
    mask = np.zeros((side, side), np.uint8)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = 1
    return mask


DIGIT = (40, 20, 12, 60)


@pytest.mark.parametrize("size", [1, 2, 5, 100, 4096, 4097, 50_000])
@pytest.mark.parametrize("share", [0.0, 0.125, 0.4, 0.5, 0.9, 1.0])
def test_percentile_is_numpys(size: int, share: float) -> None:
    values = RNG.integers(0, 256, size, dtype=np.uint8)
    assert percentile(values, share) == np.percentile(values, 100 * share, method="lower")


def test_border_is_the_outermost_pixels() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert sorted(border(image)) == sorted([0, 1, 2, 3, 8, 9, 10, 11, 0, 4, 8, 3, 7, 11])


def test_brightness_is_that_of_the_strokes_alone() -> None:
    ink = np.where(page(DIGIT), 200, 30).astype(np.uint8)
    assert brightness(ink, page(DIGIT)) == 200


def test_mask_without_strokes_is_blank() -> None:
    with pytest.raises(ImageError, match="no strokes found"):
        Parts(np.zeros((50, 50), np.uint8))


def test_parts_are_counted_and_cut_out() -> None:
    boxes = [DIGIT, (5, 5, 3, 3), (90, 90, 4, 4)]
    parts = Parts(page(*boxes))
    assert len(parts) == 3
    for box in boxes:
        x, y, w, h = box
        (part,) = np.flatnonzero((parts.stats[:, :4] == (x, y, w, h)).all(axis=1))
        assert np.array_equal(parts.mask_of(int(part)), page(box))
    assert np.array_equal(parts.mask_of(0, 1, 2), parts.mask)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    assert len(Parts(page((10, 10, 5, 5), (15, 15, 5, 5)))) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((2, 2, 4, 4), id="a speck in the corner"),
        pytest.param((0, 0, 100, 3), id="dirt along the border"),
        pytest.param((80, 70, 10, 15), id="a smaller one at the side"),
    ],
)
def test_digit_is_the_large_central_part(other: tuple[int, int, int, int]) -> None:
    parts = Parts(page(DIGIT, other))
    assert np.array_equal(parts.mask_of(parts.main()), page(DIGIT))


def test_stroke_beside_the_digit_belongs_to_it_and_a_speck_does_not() -> None:
    bar, speck = (30, 10, 40, 6), (60, 50, 1, 1)
    strokes, _, more = find_strokes(page(DIGIT, bar, speck) * 200, 50)
    assert np.array_equal(strokes, page(DIGIT, bar))
    assert not more


def test_far_stroke_is_another_digit() -> None:
    strokes, _, more = find_strokes(page(DIGIT, (80, 20, 12, 60)) * 200, 50)
    assert np.array_equal(strokes, page(DIGIT))
    assert more


def test_box_around_the_digit_is_left_out_and_a_ring_is_told() -> None:
    box, ring = np.zeros((2, 100, 100), np.uint8)
    cv2.rectangle(box, (20, 8), (75, 92), 1, 2)
    cv2.circle(ring, (46, 50), 44, 1, 2)
    for around, told in ((box, False), (ring, True)):
        strokes, _, more = find_strokes((page(DIGIT) | around) * 200, 50)
        assert np.array_equal(strokes, page(DIGIT))
        assert more == told


def test_brightness_of_faint_ink_is_told() -> None:
    _, bright, _ = find_strokes(page(DIGIT) * 90, 50)
    assert bright == 90


def test_box_fills_its_sides_and_strokes_do_not() -> None:
    box, cross = np.zeros((2, 60, 60), np.uint8)
    cv2.rectangle(box, (0, 0), (59, 59), 1, 2)
    cross[28:32] = cross[:, 28:32] = 1
    assert fills_its_sides(box.view(np.bool_))
    assert not fills_its_sides(cross.view(np.bool_))


def test_lines_of_ruled_paper_go_and_strokes_stay() -> None:
    paper, digit = np.zeros((2, 100, 100), np.uint8)
    paper[20::20] = 1
    digit[15:75, 48:54] = 1
    assert np.array_equal(without_lines(paper | digit), digit)


def test_squares_of_paper_go_and_strokes_stay() -> None:
    paper, digit = np.zeros((2, 100, 100), np.uint8)
    paper[20::20] = paper[:, 10::20] = 1
    digit[15:75, 37:43] = 1
    found = without_lines(paper | digit)
    assert np.array_equal(found, digit)


def test_single_line_at_the_edge_is_a_stroke_where_nothing_is_inside() -> None:
    picture = page((0, 48, 100, 3), (0, 20, 3, 60))
    assert np.array_equal(without_lines(picture), picture)
