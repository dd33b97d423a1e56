"""Strokes of any size and width come to look like MNIST's."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from batchdigit.errors import ImageError
from batchdigit.images.normalise import DIGIT, FINE, MAX_WIDTH, MIN_WIDTH, normalise
from tests.support.pictures import Pixels


def bar(height: int, width: float, lean: int = 0) -> Pixels:
    """A stroke from top to bottom, in a picture that it fills."""
    image = Image.new("L", (max(1, round(width)) + lean, height))
    draw = ImageDraw.Draw(image)
    edge = round(width) - 1
    draw.polygon([(lean, 0), (lean + edge, 0), (edge, height - 1), (0, height - 1)], fill=255)
    return np.asarray(image)


def box_of(pixels: Pixels) -> tuple[int, int]:
    rows, columns = (np.flatnonzero((pixels > 127).any(axis=axis)) for axis in (1, 0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def centre_of(pixels: Pixels) -> tuple[float, float]:
    weights = pixels / pixels.sum(dtype=np.int64)
    y, x = np.mgrid[:28, :28]
    return float((weights * y).sum()), float((weights * x).sum())


@pytest.mark.parametrize("height", [10, 20, 80, 300])
@pytest.mark.parametrize("lean", [0, 5])
def test_digit_fills_mnists_box_and_stands_where_mnists_do(height: int, lean: int) -> None:
    seen = normalise(bar(height, max(1, height / 7), lean), height)
    assert (seen.shape, seen.dtype) == ((28, 28), np.uint8)
    assert abs(max(box_of(seen)) - DIGIT) <= 1
    for place in centre_of(seen):  # the middle of pixel 14, within half a fine pixel and rounding
        assert place == pytest.approx(14, abs=0.5 / FINE + 0.05)


def width_of_diagonal(share: float) -> float:
    """How wide a diagonal stroke comes out, at FINE times the final size.

    A row across it adds up to its width times the square root of 2.
    """
    picture = Image.new("L", (400, 400))
    ImageDraw.Draw(picture).line([(0, 0), (400, 400)], fill=255, width=round(400 * share))
    seen = normalise(np.asarray(picture), 400)
    return float(seen[10:18].sum(axis=1).mean() / 255 * FINE / 2**0.5)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3])
def test_strokes_are_about_as_wide_as_in_mnist(share: float) -> None:
    """Also strokes that were far thinner or wider than the limits: 4 to 24 at the same size."""
    assert 0.75 * MIN_WIDTH < width_of_diagonal(share) < 1.15 * MAX_WIDTH


@pytest.mark.parametrize("share", [0.15, 0.2])
def test_strokes_of_usual_width_keep_it(share: float) -> None:
    assert width_of_diagonal(share) == pytest.approx(share * FINE * DIGIT, abs=0.5)


def test_usual_width_is_left_alone() -> None:
    """A bar that has the right size already, at four times the final one, is only averaged."""
    strokes = np.zeros((80, 20), np.uint8)
    strokes[:, 3:17] = 255
    square = np.zeros((112, 112))
    x = round(14.5 * FINE - 0.5 - 9.5)
    y = round(14.5 * FINE - 0.5 - 39.5)
    square[y : y + 80, x : x + 20] = strokes
    expected = square.reshape(28, FINE, 28, FINE).mean(axis=(1, 3))
    assert np.abs(normalise(strokes, 80) - expected).max() <= 1


def test_size_of_the_picture_does_not_matter() -> None:
    small, large = (
        normalise(bar(height, height / 5, height // 4), height) for height in (100, 400)
    )
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.98


def test_picture_without_strokes_is_blank() -> None:
    with pytest.raises(ImageError, match="no strokes found") as caught:
        normalise(np.zeros((30, 20), np.uint8), 30)
    assert caught.value.stage == "blank"


def test_wide_strokes_reach_no_further_than_the_image() -> None:
    """However far the centre of mass is from the middle of the box."""
    strokes = np.zeros((80, 80), np.uint8)
    strokes[:, :4] = 255
    strokes[:20, :] = 255
    seen = normalise(strokes, 80)
    assert seen.shape == (28, 28)
    assert seen.max() == 255
