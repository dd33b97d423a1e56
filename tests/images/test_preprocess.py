from io import BytesIO

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import Resize, ToTensor, v2

from batchdigit.batches import Treatment
from batchdigit.errors import ImageError
from batchdigit.images.preprocess import look_like_mnist, to_model_input
from batchdigit.models.placing import placed
from batchdigit.models.spec import InputSpec
from tests.support.pictures import Pixels, ink_on_paper, labels, through_a_file

RNG = np.random.default_rng(0)


def exactly(image: Image.Image) -> np.ndarray:
    return to_model_input(image, "exact").pixels


GREY = RNG.integers(0, 256, (28, 28), dtype=np.uint8)
GRADIENT = np.arange(784, dtype=np.uint8).reshape(28, 28)


def reopened(image: Image.Image, form: str = "PNG", **options: object) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    again = Image.open(buffer)
    again.load()
    return again


def test_28x28_grey_passes_as_to_tensor_takes_it() -> None:
    image = reopened(Image.fromarray(GREY))
    oracle = ToTensor()(image)[0]
    assert torch.equal(torch.from_numpy(exactly(image).copy()).float() / 255, oracle)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_becomes_8_bit_grey_of_the_right_size(mode: str) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    if mode == "LAB":
        image = Image.new("LAB", (30, 40), (128, 10, 10))
    result = exactly(image if image.mode == mode else image.convert(mode))
    assert result.shape == (28, 28)
    assert result.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_grey_stays_what_it_was_through_another_mode(mode: str) -> None:
    image = Image.fromarray(GREY).convert(mode)
    assert np.abs(exactly(image).astype(int) - GREY).max() <= 1


def test_black_and_white_become_0_and_255() -> None:
    bits = Image.fromarray((GREY > 127).astype(np.uint8) * 255).convert("1")
    assert np.array_equal(exactly(reopened(bits)), (GREY > 127) * 255)


def test_palette_is_looked_up() -> None:
    image = Image.fromarray(GREY % 4, "P")
    image.putpalette([0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255])
    assert np.array_equal(exactly(reopened(image)), GREY % 4 * 85)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white(mode: str) -> None:
    image = Image.fromarray(np.zeros((28, 28), np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)))
    assert np.array_equal(exactly(reopened(image)), np.where(GREY > 127, 0, 255))


def test_half_transparent_black_becomes_mid_grey() -> None:
    assert exactly(Image.new("RGBA", (28, 28), (0, 0, 0, 128)))[0, 0] == 127


def test_transparent_palette_entry_becomes_white() -> None:
    image = Image.fromarray(GREY % 2, "P")
    image.putpalette([10, 10, 10, 200, 200, 200])
    result = exactly(reopened(image, transparency=0))
    assert np.array_equal(result, np.where(GREY % 2, 200, 255))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_is_scaled_not_cut_off(form: str) -> None:
    image = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert np.array_equal(exactly(reopened(image, form)), GREY)


def test_16_bit_transparent_value_becomes_white() -> None:
    image = Image.fromarray(np.where(GREY > 127, 1000, 40_000).astype(np.uint16))
    image.info["transparency"] = 1000
    assert set(np.unique(exactly(image)[GREY > 127])) == {255}
    assert set(np.unique(exactly(image)[GREY <= 127])) == {round(40_000 / 257)}


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_floating_point_is_scaled_by_its_range(white: float) -> None:
    image = Image.fromarray((GREY / 255 * white).astype(np.float32))
    assert np.array_equal(exactly(reopened(image, "TIFF")), GREY)


@pytest.mark.parametrize(("factor", "offset"), [(1.0, -100.0), (1000.0, 0.0), (0.001, -0.1)])
def test_values_of_no_known_range_are_stretched(factor: float, offset: float) -> None:
    assert {0, 255} <= set(GREY.ravel())
    image = Image.fromarray((GREY * factor + offset).astype(np.float32))
    assert np.abs(exactly(image).astype(int) - GREY).max() <= 1


def test_32_bit_integers_are_stretched() -> None:
    assert np.array_equal(exactly(Image.fromarray(GREY.astype(np.int32) * 100_000)), GREY)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    pixels = np.zeros((28, 28), np.float32)
    pixels[3, 4] = value
    with pytest.raises(ImageError, match="finite"):
        exactly(Image.fromarray(pixels))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    upright = Image.fromarray(np.repeat(GRADIENT[..., None], 3, axis=2))
    to_stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright if orientation == 1 else upright.transpose(to_stored[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(exactly(reopened(stored, exif=exif)), GRADIENT)


def test_small_grey_image_is_turned_and_laid_over_white_like_any_other() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    grey = Image.fromarray(GRADIENT)
    assert np.array_equal(exactly(reopened(grey, exif=exif)), GRADIENT[::-1, ::-1])
    transparent = exactly(reopened(grey, transparency=7))
    assert np.array_equal(transparent, np.where(GRADIENT == 7, 255, GRADIENT))


def test_broken_exif_means_upright() -> None:
    image = Image.fromarray(np.repeat(GREY[..., None], 3, axis=2))
    image.info["exif"] = b"Exif\0\0II*\0\xff\xff\xff\xff"
    assert np.array_equal(exactly(image), GREY)


@pytest.mark.parametrize("size", [(56, 56), (100, 60), (20, 20), (1, 1), (1000, 3)])
def test_resize_is_torchvisions_antialiased_one(size: tuple[int, int]) -> None:
    pixels = RNG.integers(0, 256, size[::-1], dtype=np.uint8)
    oracle = v2.functional.resize(Image.fromarray(pixels), [28, 28], antialias=True)
    assert np.array_equal(exactly(Image.fromarray(pixels)), np.asarray(oracle))


def test_mnist_digits_pass_bit_for_bit(thousand: Pixels) -> None:
    for digit in thousand:
        image = through_a_file(Image.fromarray(digit))
        seen = to_model_input(image, "auto")
        assert seen.treatment == Treatment.AS_IT_IS
        assert np.array_equal(seen.pixels, to_model_input(image, "exact").pixels)
        assert seen.ink == np.count_nonzero(digit > 127) / 784


def test_exact_takes_a_blank_image_as_it_is() -> None:
    seen = to_model_input(Image.new("L", (28, 28)), "exact")
    assert not seen.pixels.any()
    assert np.isnan(seen.ink)


def test_exact_tells_that_an_image_seems_inverted(thousand: Pixels) -> None:
    assert to_model_input(Image.fromarray(~thousand[0]), "exact").treatment == Treatment.DARK
    assert not to_model_input(Image.fromarray(thousand[0]), "exact").treatment


@pytest.mark.parametrize("peak", [1, 25, 128, 255])
def test_exact_tells_that_an_image_is_fainter_than_those_of_mnist(
    peak: int, thousand: Pixels
) -> None:
    image = Image.fromarray(ink_on_paper(thousand[0], peak, 0))
    seen = to_model_input(image, "exact")
    assert np.array_equal(seen.pixels, np.asarray(image))
    assert seen.treatment == (Treatment.FAINT if peak < 255 else Treatment.AS_IT_IS)


@pytest.mark.parametrize("peak", [25, 40, 80, 128])
def test_faint_digit_of_the_size_and_place_of_mnists_is_fitted(peak: int, thousand: Pixels) -> None:
    faint = [ink_on_paper(digit, peak, 0) for digit in thousand[:300]]
    seen = [to_model_input(Image.fromarray(image)) for image in faint]
    assert {digit.treatment for digit in seen} == {Treatment.FITTED}
    read = labels([digit.pixels for digit in seen])
    assert (read == np.arange(300) % 10).mean() >= 0.99


def test_page_in_a_transparent_frame_keeps_its_ink(thousand: Pixels) -> None:
    page = cv2.copyMakeBorder(~thousand[0], 10, 10, 10, 10, cv2.BORDER_CONSTANT, value=255)
    alpha = np.zeros((88, 88), np.uint8)
    alpha[20:68, 20:68] = 255
    levels = np.zeros((88, 88), np.uint8)
    levels[20:68, 20:68] = page
    image = Image.merge("LA", [Image.fromarray(levels), Image.fromarray(alpha)])
    seen = to_model_input(through_a_file(image))
    assert labels([seen.pixels]) == labels([thousand[0]])
    assert seen.treatment & Treatment.DARK


def test_looks_like_mnist_only_in_the_middle_and_as_large(thousand: Pixels) -> None:
    digit = thousand[0]
    others = (
        np.roll(digit, 2, axis=1),
        np.roll(digit, 2, axis=0),
        np.zeros((28, 28), np.uint8),
        np.pad(np.full((20, 20), 255, np.uint8), 4),
        cv2.copyMakeBorder(cv2.resize(digit, (20, 20)), 4, 4, 4, 4, cv2.BORDER_CONSTANT),
    )
    seen = look_like_mnist(np.stack([digit, *others]))
    assert seen.mnist.tolist() == [True] + [False] * len(others)


@pytest.mark.parametrize("kind", ["digits", "moved", "faint", "noise"])
def test_look_like_mnist_is_what_opencv_says(kind: str, thousand: Pixels) -> None:
    random = np.random.default_rng(5)
    images = thousand.copy()
    if kind == "moved":
        images = np.stack([np.roll(image, random.integers(-2, 3, 2), (0, 1)) for image in images])
    elif kind == "faint":
        images //= random.integers(1, 256, (len(images), 1, 1), dtype=np.uint8)
    elif kind == "noise":
        images[:, 4:24, 4:24] = random.integers(0, 256, (len(images), 20, 20))
    seen = look_like_mnist(images)
    for image, mnist, ink in zip(images, *seen, strict=True):
        _, _, width, height = cv2.boundingRect(image)
        moments = cv2.moments(image)
        centre = [moments[name] / max(moments["m00"], 1) for name in ("m10", "m01")]
        share = cv2.countNonZero(image & 128) / image.size
        assert ink == share
        right = max(width, height) in (19, 20) and all(13.4 < place < 14.6 for place in centre)
        brightness = cv2.norm(image, cv2.NORM_L2SQR) / max(moments["m00"], 1)
        assert mnist == (right and share < 0.45 and brightness >= 150)
    if kind != "digits":
        assert 0 < seen.mnist.sum() < len(images)


def test_way_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="'sharpen'"):
        to_model_input(Image.new("L", (50, 50)), "sharpen")


SPECS = [
    InputSpec((32, 32)),
    InputSpec((20, 32)),
    InputSpec((20, 32), transpose=True),
    InputSpec((32, 32), place="pad"),
    InputSpec((8, 8), 3),
    InputSpec((28, 28), 3, mean=(0.5,), std=(0.5,), expects="dark-on-light", layout="nhwc"),
    InputSpec((224, 224), 3),
]
"""What networks of the user's own take."""


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_exact_image_of_another_size_is_placed_as_torchvision_does(
    spec: InputSpec, mode: str
) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).convert(mode)
    wanted = image.convert("RGB" if spec.channels == 3 else "L")
    oracle = np.asarray(Resize(spec.plane)(wanted))
    assert np.array_equal(to_model_input(image, "exact", spec).pixels, oracle)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
@pytest.mark.parametrize("how", ["auto", "fit"])
def test_digit_is_fitted_and_then_placed_grey(spec: InputSpec, how: str, thousand: Pixels) -> None:
    """A network of digits knows MNIST's, whatever size it was given them in."""
    for digit in (thousand[3], 255 - thousand[3]):
        image = Image.fromarray(digit).convert("RGB").resize((60, 60))
        fitted = to_model_input(image, how)
        found = to_model_input(image, how, spec)
        assert np.array_equal(found.pixels, placed(fitted.pixels, spec))
        assert found.pixels.shape == spec.plane
        assert (found.treatment, found.ink) == (fitted.treatment, fitted.ink)


def test_digit_like_mnists_is_placed_as_it_is(thousand: Pixels) -> None:
    found = to_model_input(Image.fromarray(thousand[3]), "auto", InputSpec((32, 32), place="pad"))
    assert np.array_equal(found.pixels, np.pad(thousand[3], 2))
    assert found.treatment == Treatment.AS_IT_IS


COLOURS = RNG.integers(0, 256, (28, 28, 3), dtype=np.uint8)
COLOUR = InputSpec(channels=3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_kept_for_a_network_of_colours(mode: str) -> None:
    colours = COLOURS // 128 * 255  # eight of them, which a palette can hold
    image = reopened(Image.fromarray(colours).convert(mode))
    assert np.array_equal(to_model_input(image, "exact", COLOUR).pixels, colours)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray((GREY / 255).astype(np.float32)),
        Image.fromarray(GREY).convert("LA"),
    ],
    ids=["L", "I;16", "F", "LA"],
)
def test_grey_has_the_same_number_in_each_channel(image: Image.Image) -> None:
    found = to_model_input(image, "exact", COLOUR).pixels
    assert found.shape == (28, 28, 3)
    assert np.array_equal(found, np.repeat(GREY[..., None], 3, axis=2))


def test_black_and_white_have_three_channels_too() -> None:
    bits = Image.fromarray((GREY > 127).astype(np.uint8) * 255).convert("1")
    found = to_model_input(bits, "exact", COLOUR).pixels
    assert np.array_equal(found, np.repeat(np.where(GREY > 127, 255, 0)[..., None], 3, axis=2))


def test_transparent_pixels_are_white_in_colours() -> None:
    image = Image.fromarray(COLOURS)
    image.putalpha(Image.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)))
    found = to_model_input(reopened(image), "exact", COLOUR).pixels
    assert np.array_equal(found, np.where(GREY[..., None] > 127, COLOURS, 255))


def test_colours_are_turned_by_their_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = reopened(Image.fromarray(COLOURS).transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert np.array_equal(to_model_input(stored, "exact", COLOUR).pixels, COLOURS)


@pytest.mark.parametrize("spec", [COLOUR, InputSpec((40, 40))], ids=["RGB", "40x40"])
def test_dark_ink_and_faint_strokes_are_seen_in_any_size_and_colour(
    spec: InputSpec, thousand: Pixels
) -> None:
    digit = Image.fromarray(thousand[3]).convert("RGB")
    for pixels, treatment in (
        (digit, Treatment.AS_IT_IS),
        (ImageOps.invert(digit), Treatment.DARK),
        (digit.point(lambda level: level // 3), Treatment.FAINT),
    ):
        assert to_model_input(pixels, "exact", spec).treatment == treatment


def test_no_way_to_prepare_images_has_another_name() -> None:
    for shape in ((28, 28), (30, 30)):
        with pytest.raises(ValueError, match="no way to prepare images is called 'best'"):
            to_model_input(np.zeros(shape, np.uint8), "best", InputSpec((32, 32)))


@pytest.mark.parametrize("place", ["resize", "pad"])
@pytest.mark.parametrize("expects", ["light-on-dark", "dark-on-light"])
def test_dark_strokes_reach_a_network_of_dark_strokes_as_they_are(place: str, expects: str) -> None:
    """Judged before a dark margin hides how the image looks at its border."""
    light = np.zeros((28, 28), np.uint8)
    light[6:22, 12:16] = 255
    spec = InputSpec(size=32, place=place, expects=expects)
    for image, is_dark in ((light, False), (~light, True)):
        digit = to_model_input(image, "exact", spec)
        assert bool(digit.treatment & Treatment.DARK) is is_dark
        pixels = digit.pixels[None, None].astype(np.float32)
        stroke = spec.prepare(pixels)[0, 0, 16, 16]
        dark_stroke = is_dark if expects == "light-on-dark" else True
        assert stroke == (0.0 if dark_stroke else 1.0)
