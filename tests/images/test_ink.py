"""Ink is told from paper, whichever is darker and however the light falls."""

import cv2
import numpy as np
import pytest
from PIL import Image

from batchdigit.errors import ImageError
from batchdigit.images.ink import find_ink, ink_is_dark, shrink, without_background
from tests.support.pictures import Pixels


def enlarged(digit: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (30, 64)])
def test_small_picture_is_not_shrunk(shape: tuple[int, int]) -> None:
    picture = np.zeros(shape, np.uint8)
    assert shrink(picture, 64) is picture


@pytest.mark.parametrize("shape", [(65, 65), (1000, 700), (3000, 20), (20, 3000), (1, 500)])
def test_larger_side_becomes_the_given_one(shape: tuple[int, int]) -> None:
    small = shrink(np.full(shape, 77, np.uint8), 64)
    assert max(small.shape) == 64
    for side, whole in zip(small.shape, shape, strict=True):
        assert abs(side - whole * 64 / max(shape)) < 1
    assert (small == 77).all()


def test_shrinking_averages() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (256, 128), dtype=np.uint8)
    blocks = picture.reshape(64, 4, 32, 4).mean(axis=(1, 3))
    assert np.abs(shrink(picture, 64) - blocks).max() <= 1  # halved twice, rounded each time


@pytest.mark.parametrize("side", [28, 40, 41, 112])
def test_polarity_of_digits_is_told(side: int, thousand: Pixels) -> None:
    digits = [enlarged(digit, side) for digit in thousand[:200]]
    assert not any(ink_is_dark(digit) for digit in digits)
    assert all(ink_is_dark(~digit) for digit in digits)


def test_shadow_does_not_change_the_polarity(thousand: Pixels) -> None:
    light = np.where(np.arange(112) < 50, 0.45, 1.0)
    for digit in thousand[:50]:
        paper = (230 - 0.8 * enlarged(digit, 112)) * light
        assert ink_is_dark(paper.astype(np.uint8))


@pytest.mark.parametrize("noise", [0, 2, 6])
def test_ink_is_what_was_drawn(noise: float, thousand: Pixels) -> None:
    random = np.random.default_rng(2)
    for digit in thousand[:20]:
        drawn = enlarged(digit, 140) > 127
        picture = np.where(drawn, 200, 60) + random.normal(0, noise, drawn.shape)
        ink, base, floor = find_ink(picture.clip(0, 255).astype(np.uint8))
        found = ink > (base + 140) / 2
        assert base < 10 < floor < 140
        assert (found & drawn).sum() > 0.95 * (found | drawn).sum()
        near = cv2.dilate(drawn.view(np.uint8), np.ones((7, 7), np.uint8)).view(np.bool_)
        assert (ink > floor)[~near].mean() < 0.01


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("side", [28, 100])
def test_even_picture_is_blank(grey: int, side: int) -> None:
    with pytest.raises(ImageError, match="no strokes found"):
        find_ink(np.full((side, side), grey, np.uint8))


def test_uneven_light_is_taken_out_and_strokes_stay() -> None:
    y, x = np.mgrid[-1:1:120j, -1:1:120j]
    light = 120 + 40 * x - 20 * y + 15 * x * y - 20 * x * x
    stroke = np.zeros((120, 120), bool)
    stroke[20:100, 56:64] = True
    even = without_background((light + 80 * stroke).astype(np.uint8))
    assert np.percentile(even[~stroke], 99) < 12
    assert np.percentile(even[stroke], 1) > 60


def test_what_is_wider_than_strokes_is_background() -> None:
    picture = np.zeros((120, 120), np.uint8)
    picture[30:90, 30:90] = 100  # half as wide as the picture
    picture[40:80, 10:16] = picture[40:80, 57:63] = 200
    expected = np.zeros((120, 120), np.uint8)
    expected[40:80, 10:16], expected[40:80, 57:63] = 200, 100
    assert np.array_equal(without_background(picture), expected)
