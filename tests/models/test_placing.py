"""Images get the declared size bit for bit as torchvision gives it to Pillow's images."""

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import Pad, Resize

from batchdigit.models.placing import placed, placed_all
from batchdigit.models.spec import InputSpec

RNG = np.random.default_rng(3)
SHAPES = [(28, 28), (1, 1), (40, 30), (20, 64), (200, 300)]
SIZES = [(28, 28), (32, 32), (8, 8), (32, 28), (28, 64), (299, 299), (1, 1)]


def random_image(height: int, width: int, channels: int) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_image_is_resized_as_torchvision_does(
    shape: tuple[int, int], size: tuple[int, int], channels: int
) -> None:
    image = random_image(*shape, channels)
    oracle = np.asarray(Resize(size)(Image.fromarray(image)))
    found = placed(image, InputSpec(size, channels))
    assert found.dtype == np.uint8
    assert np.array_equal(found, oracle)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (31, 30), (28, 64), (29, 28)])
def test_image_gets_a_margin_as_torchvision_gives_it(size: tuple[int, int], channels: int) -> None:
    image = random_image(28, 28, channels)
    rows, columns = (side - 28 for side in size)
    left, top = columns // 2, rows // 2
    pad = Pad([left, top, columns - left, rows - top], fill=0)
    found = placed(image, InputSpec(size, channels, place="pad"))
    assert np.array_equal(found, np.asarray(pad(Image.fromarray(image))))


def test_margin_of_two_pixels_is_that_of_lenet() -> None:
    image = random_image(28, 28, 1)
    found = placed(image, InputSpec((32, 32), place="pad"))
    assert np.array_equal(found, np.asarray(Pad(2)(Image.fromarray(image))))


@pytest.mark.parametrize("shape", [(40, 28), (28, 40), (33, 20), (64, 64)])
def test_image_that_is_too_large_for_a_margin_is_resized(shape: tuple[int, int]) -> None:
    image = random_image(*shape, 1)
    found = placed(image, InputSpec((32, 32), place="pad"))
    assert np.array_equal(found, np.asarray(Resize((32, 32))(Image.fromarray(image))))


@pytest.mark.parametrize("place", ["resize", "pad"])
def test_image_of_the_size_is_left_as_it_is(place: str) -> None:
    image = random_image(28, 28, 3)
    assert placed(image, InputSpec(channels=3, place=place)) is image


def test_network_that_changes_places_of_rows_and_columns_gets_upright_images_first() -> None:
    image = random_image(28, 28, 1)
    found = placed(image, InputSpec((20, 32), transpose=True))
    assert np.array_equal(found, np.asarray(Resize((32, 20))(Image.fromarray(image))))


@pytest.mark.parametrize("place", ["resize", "pad"])
@pytest.mark.parametrize("size", [(28, 28), (32, 40)])
def test_many_images_are_placed_as_each_is_by_itself(size: tuple[int, int], place: str) -> None:
    images_B1HW = RNG.integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    spec = InputSpec(size, place=place)
    found = placed_all(images_B1HW, spec)
    assert found.shape == (5, 1, *size)
    for image, one in zip(images_B1HW[:, 0], found[:, 0], strict=True):
        assert np.array_equal(one, placed(image, spec))
