"""A digit is read as the same digit, whatever else about its picture changes."""

import contextlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from batchdigit.batches import Treatment
from batchdigit.errors import ImageError
from batchdigit.images.fit import fit
from batchdigit.images.preprocess import to_model_input
from batchdigit.training.variants import rules, shadow
from tests.support.pictures import Pixels, ink_on_paper, labels, through_a_file

Change = Callable[[Pixels, np.random.Generator], Image.Image]


def inverted(digit: Pixels, _random: np.random.Generator) -> Image.Image:
    return through_a_file(Image.fromarray(~digit))


def any_grey(digit: Pixels, random: np.random.Generator) -> Image.Image:
    paper = int(random.integers(0, 256))
    ink = paper + (1 if paper < 128 else -1) * int(random.integers(60, 128))
    return through_a_file(Image.fromarray(ink_on_paper(digit, ink, paper)))


def scaled(digit: Pixels, random: np.random.Generator) -> Image.Image:
    side = round(28 * float(np.exp(random.uniform(np.log(0.5), np.log(8)))))
    return through_a_file(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def small_on_a_page(digit: Pixels, random: np.random.Generator) -> Image.Image:
    """At least a fifth as large as the page, anywhere on it."""
    side = round(28 * float(np.exp(random.uniform(np.log(0.2 * 5), np.log(5)))))
    page = np.zeros((140, 140), np.uint8)
    y, x = random.integers(0, 141 - side, 2)
    page[y : y + side, x : x + side] = cv2.resize(
        digit, (side, side), interpolation=cv2.INTER_CUBIC
    )
    return through_a_file(Image.fromarray(page))


def off_centre(digit: Pixels, random: np.random.Generator) -> Image.Image:
    page = np.zeros((64, 64), np.uint8)
    y, x = random.integers(0, 37, 2)
    page[y : y + 28, x : x + 28] = digit
    return through_a_file(Image.fromarray(page))


def turned_by_exif(digit: Pixels, random: np.random.Generator) -> Image.Image:
    orientation = int(random.integers(2, 9))
    undone = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that the viewer undoes
    image = Image.fromarray(~digit).resize((56, 56))
    stored = image.transpose(Image.Transpose(undone[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = through_a_file(stored, exif=exif)
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(result)), np.asarray(image))
    return result


def dark_on_transparent(digit: Pixels, _random: np.random.Generator) -> Image.Image:
    return through_a_file(Image.merge("LA", [Image.new("L", (28, 28)), Image.fromarray(digit)]))


def white_on_transparent(digit: Pixels, _random: np.random.Generator) -> Image.Image:
    white = Image.new("L", (28, 28), 255)
    return through_a_file(Image.merge("LA", [white, Image.fromarray(digit)]))


def of_16_bits(digit: Pixels, _random: np.random.Generator) -> Image.Image:
    return through_a_file(Image.fromarray((255 - digit.astype(np.uint16)) * 257))


def of_few_bits_in_16(digit: Pixels, random: np.random.Generator) -> Image.Image:
    white = 2 ** int(random.choice([8, 10, 12])) - 1
    levels = ((255 - digit.astype(np.float32)) * (white / 255)).astype(np.uint16)
    return through_a_file(Image.fromarray(levels))


def in_a_palette(digit: Pixels, _random: np.random.Generator) -> Image.Image:
    return through_a_file(Image.fromarray(~digit).convert("RGB").quantize(16))


def in_cmyk(digit: Pixels, _random: np.random.Generator) -> Image.Image:
    return through_a_file(Image.fromarray(~digit).convert("CMYK"), "TIFF")


def through_jpeg(digit: Pixels, random: np.random.Generator) -> Image.Image:
    return through_a_file(Image.fromarray(~digit), "JPEG", quality=int(random.integers(40, 95)))


def in_a_shadow(digit: Pixels, random: np.random.Generator) -> Image.Image:
    page = cv2.resize(digit, (140, 140), interpolation=cv2.INTER_CUBIC)
    light = shadow(140, 140, random)
    return through_a_file(Image.fromarray((ink_on_paper(page, 30, 220) * light).astype(np.uint8)))


def on_a_slope_of_light(digit: Pixels, random: np.random.Generator) -> Image.Image:
    light = np.linspace(random.uniform(0.6, 1), random.uniform(0.6, 1), 28)
    paper = ink_on_paper(digit, 20, 230) * (light[:, None] if random.random() < 0.5 else light)
    return through_a_file(Image.fromarray(paper.astype(np.uint8)))


def on_ruled_paper(digit: Pixels, random: np.random.Generator) -> Image.Image:
    page = np.zeros((200, 200), np.uint8)
    y, x = random.integers(10, 50, 2)
    page[y : y + 140, x : x + 140] = cv2.resize(digit, (140, 140), interpolation=cv2.INTER_CUBIC)
    lines = rules(200, 200, float(random.uniform(0.1, 0.5)), random)
    return through_a_file(Image.fromarray((ink_on_paper(page, 30, 230) * lines).astype(np.uint8)))


def tiny_on_a_noisy_page(digit: Pixels, random: np.random.Generator) -> Image.Image:
    """The page is reduced to look for the digit, which is then small on it."""
    side = int(random.integers(40, 90))
    page = np.zeros((600, 800), np.uint8)
    y, x = random.integers(60, 450, 2)
    page[y : y + side, x : x + side] = cv2.resize(
        digit, (side, side), interpolation=cv2.INTER_CUBIC
    )
    noise = random.normal(0, 3, page.shape)
    return Image.fromarray((ink_on_paper(page, 30, 230) + noise).clip(0, 255).astype(np.uint8))


def in_a_printed_box(digit: Pixels, random: np.random.Generator) -> Image.Image:
    page = np.zeros((100, 100), np.uint8)
    page[22:78, 22:78] = cv2.resize(digit, (56, 56), interpolation=cv2.INTER_CUBIC)
    inset, pen = int(random.integers(0, 12)), int(random.integers(1, 4))
    cv2.rectangle(page, (inset, inset), (99 - inset, 99 - inset), 255, pen)
    return through_a_file(Image.fromarray(~page))


def under_a_dark_lid(digit: Pixels, random: np.random.Generator) -> Image.Image:
    paper = ink_on_paper(cv2.resize(digit, (84, 84), interpolation=cv2.INTER_CUBIC), 30, 230)
    rim = int(random.integers(1, 9))
    return through_a_file(Image.fromarray(cv2.copyMakeBorder(paper, *(rim,) * 4, 0, value=10)))


def on_a_slip_on_a_desk(digit: Pixels, random: np.random.Generator) -> Image.Image:
    desk = 60 + random.normal(0, 4, (220, 240))
    slip = ink_on_paper(cv2.resize(digit, (140, 140), interpolation=cv2.INTER_CUBIC), 40, 225)
    y, x = random.integers(20, 60, 2)
    desk[y : y + 140, x : x + 140] = slip
    return through_a_file(Image.fromarray(desk.clip(0, 255).astype(np.uint8)))


def with_another_pen(digit: Pixels, random: np.random.Generator) -> Image.Image:
    """Strokes from three quarters to one and a half times as wide."""
    large = cv2.resize(digit, (280, 280), interpolation=cv2.INTER_CUBIC)
    inside = (large > 127).astype(np.uint8)
    width = 4 * cv2.mean(cv2.distanceTransform(inside, cv2.DIST_L2, 3), inside)[0]
    radius = round(width * random.uniform(-0.25, 0.5) / 2)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(radius) + 1,) * 2)
    drawn = cv2.dilate(large, kernel) if radius > 0 else cv2.erode(large, kernel)
    return through_a_file(Image.fromarray(~drawn))


def faint(digit: Pixels, random: np.random.Generator) -> Image.Image:
    return through_a_file(Image.fromarray(ink_on_paper(digit, random.uniform(15, 145), 0)))


def faint_behind_a_speck(digit: Pixels, random: np.random.Generator) -> Image.Image:
    """A pixel of dust, or a hot one of the camera, outshines the strokes."""
    image = ink_on_paper(digit, random.uniform(20, 60), 0)
    image[tuple(random.integers(4, 24, 2))] = 255
    return through_a_file(Image.fromarray(image))


CHANGES = [
    faint, faint_behind_a_speck,
    inverted, any_grey, scaled, small_on_a_page, off_centre, turned_by_exif, dark_on_transparent,
    white_on_transparent, of_16_bits, of_few_bits_in_16, in_a_palette, in_cmyk, through_jpeg,
    in_a_shadow, on_a_slope_of_light, on_ruled_paper, tiny_on_a_noisy_page, in_a_printed_box,
    under_a_dark_lid, on_a_slip_on_a_desk, with_another_pen,
]  # fmt: skip


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_digit_stays_the_same(change: Change, count: int, thousand: Pixels) -> None:
    random = np.random.default_rng(7)
    digits = thousand[:count]
    seen = [to_model_input(change(digit, random)).pixels for digit in digits]
    same = labels(seen) == labels(list(digits))
    assert same.mean() >= 0.99


def test_a_pixel_of_dust_does_not_say_how_bright_strokes_are(thousand: Pixels) -> None:
    """These are as bright as the least that would count beside it: only some of them."""
    image = ink_on_paper(thousand[829], 41, 0)
    image[11, 8] = 255
    assert labels([to_model_input(image).pixels]).tolist() == [9]


def test_fitted_mnist_digits_are_what_they_were(thousand: Pixels) -> None:
    fitted = [to_model_input(Image.fromarray(digit), "fit") for digit in thousand]
    assert {digit.treatment & ~Treatment.CROWDED for digit in fitted} == {Treatment.FITTED}
    alike = [
        np.corrcoef(after.pixels.ravel(), before.ravel())[0, 1]
        for after, before in zip(fitted, thousand, strict=True)
    ]
    assert np.mean(alike) > 0.9
    assert np.min(alike) > 0.5


@pytest.mark.parametrize("change", [inverted, any_grey, in_a_shadow], ids=lambda c: c.__name__)
def test_what_is_fitted_looks_like_mnist(change: Change, thousand: Pixels) -> None:
    random = np.random.default_rng(8)
    alike = [
        max(cv2.boundingRect(cv2.compare(seen, 40, cv2.CMP_GT))[2:]) in (19, 20, 21)
        and seen.max() >= 200
        for seen in (to_model_input(change(digit, random)).pixels for digit in thousand[:200])
    ]
    assert np.mean(alike) > 0.95


def test_polarity_and_ink_are_told(thousand: Pixels) -> None:
    page = cv2.copyMakeBorder(thousand[0], 20, 20, 20, 20, cv2.BORDER_CONSTANT)
    ink = np.count_nonzero(page > 127) / page.size
    for image, dark in ((page, False), (~page, True)):
        seen = fit(image)
        assert bool(seen.treatment & Treatment.DARK) == dark
        assert seen.ink == pytest.approx(ink, rel=0.4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (28, 28), (200, 300), (1000, 700)])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_blank_image_is_blank(shape: tuple[int, int], grey: int) -> None:
    with pytest.raises(ImageError, match="no strokes found") as caught:
        fit(np.full(shape, grey, np.uint8))
    assert caught.value.stage == "blank"


def test_strokes_come_to_the_usual_width(thousand: Pixels) -> None:
    """Whatever pen drew them, more than 95% of them are from 2 to 5 pixels wide."""
    seen = []
    for radius in (-4, 0, 12):  # for strokes that are about 25 wide
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(radius) + 1,) * 2)
        for digit in thousand[:50]:
            large = cv2.resize(digit, (280, 280), interpolation=cv2.INTER_CUBIC)
            drawn = cv2.dilate(large, kernel) if radius > 0 else cv2.erode(large, kernel)
            with contextlib.suppress(ImageError):  # the thinnest vanish
                inside = (fit(~drawn).pixels > 127).astype(np.uint8)
                fine = cv2.resize(inside, (112, 112), interpolation=cv2.INTER_NEAREST)
                distances = cv2.distanceTransform(fine, cv2.DIST_L2, 3)
                seen.append(4 * cv2.mean(distances, fine)[0])
    assert len(seen) > 140
    assert np.mean([8 < width < 20 for width in seen]) > 0.95


def test_digit_beside_another_is_crowded(thousand: Pixels) -> None:
    page = np.zeros((100, 160), np.uint8)
    page[30:58, 40:68] = page[32:60, 100:128] = thousand[3]
    assert fit(page).treatment & Treatment.CROWDED
    page[:, 90:] = 0
    assert not fit(page).treatment & Treatment.CROWDED


def test_every_shape_of_picture_is_fitted_or_blank() -> None:
    random = np.random.default_rng(10)
    fitted = 0
    for _ in range(300):
        shape = random.integers(1, 90, 2)
        picture = random.integers(0, 256, shape, dtype=np.uint8)
        if random.random() < 0.5:
            picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, 8)).reshape(shape)
        with contextlib.suppress(ImageError):
            assert fit(picture).pixels.shape == (28, 28)
            fitted += 1
    assert 0 < fitted < 300


@pytest.mark.parametrize("gap", [2, 4, 6, 10])
def test_neighbours_are_crowded(thousand: Pixels, gap: int) -> None:
    marked = []
    for one, other in zip(thousand[:100], thousand[100:200], strict=True):
        x, y, w, h = cv2.boundingRect(one)
        u, v, a, b = cv2.boundingRect(other)
        page = np.zeros((60, 90), np.uint8)
        page[20 : 20 + h, 10 : 10 + w] = one[y : y + h, x : x + w]
        page[20 : 20 + b, 10 + w + gap : 10 + w + gap + a] = other[v : v + b, u : u + a]
        marked.append(bool(fit(page).treatment & Treatment.CROWDED))
    assert np.mean(marked) >= 0.9


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_pairs_are_crowded(thousand: Pixels, axis: int, tight: bool) -> None:
    marked = []
    for one, other in zip(thousand[:100], thousand[100:200], strict=True):
        page = np.concatenate([one, other], axis=axis)
        x, y, w, h = cv2.boundingRect(page)
        page = page[y : y + h, x : x + w] if tight else np.pad(page, 30)
        marked.append(bool(fit(page).treatment & Treatment.CROWDED))
    assert np.mean(marked) >= (0.6 if tight else 0.9)


def test_circled_digit_is_read_and_marked(thousand: Pixels) -> None:
    seen = []
    for digit in thousand[:100]:
        page = np.zeros((200, 200), np.uint8)
        page[58:142, 58:142] = cv2.resize(digit, (84, 84), interpolation=cv2.INTER_CUBIC)
        cv2.ellipse(page, (100, 100), (75, 70), 10, 0, 360, 255, 4, cv2.LINE_AA)
        seen.append(fit(~page))
    assert all(digit.treatment & Treatment.CROWDED for digit in seen)
    assert (labels([digit.pixels for digit in seen]) == labels(list(thousand[:100]))).mean() >= 0.95


def test_line_of_text_is_crowded(thousand: Pixels) -> None:
    page = np.full((200, 300), 240, np.uint8)
    page[40:124, 108:192] = cv2.resize(~thousand[7], (84, 84))
    assert not fit(page).treatment & Treatment.CROWDED
    cv2.putText(page, "Name of the form", (30, 180), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 40, 2)
    assert fit(page).treatment & Treatment.CROWDED


def test_bar_from_edge_to_edge_is_a_stroke_or_none() -> None:
    strokes = 0
    for side in (30, 90, 150):
        for width in range(1, 12, 2):
            page = np.full((150, side), 250, np.uint8)
            page[:, side // 2 : side // 2 + width] = 20
            for picture in (page, np.ascontiguousarray(page.T)):
                with contextlib.suppress(ImageError):
                    assert fit(picture).pixels.max() > 200
                    strokes += 1
    assert strokes


@pytest.mark.parametrize("shape", [(28, 28), (300, 200)])
def test_paper_without_ink_is_blank(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(9)
    light = np.linspace(150, 230, shape[1]) * np.ones(shape)
    grain = random.normal(0, 1.5, shape)
    with pytest.raises(ImageError, match="no strokes found"):
        fit((light + grain).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("noise", [1.5, 3.0, 6.0, 10.0])
@pytest.mark.parametrize("shape", [(28, 28), (40, 40), (90, 120)])
def test_noise_is_blank(shape: tuple[int, int], noise: float) -> None:
    random = np.random.default_rng(11)
    for _ in range(40):
        paper = (180 + random.normal(0, noise, shape)).clip(0, 255).astype(np.uint8)
        with pytest.raises(ImageError, match="no strokes found"):
            fit(paper)


@pytest.mark.parametrize("noise", [2.0, 4.0, 8.0, 30.0])
@pytest.mark.parametrize("rim", [0, 4])
def test_noise_on_black_is_blank(noise: float, rim: int) -> None:
    """Also where it has the place and the size of a digit of MNIST's."""
    random = np.random.default_rng(12)
    for _ in range(40):
        black = np.zeros((28, 28), np.uint8)
        there = black[rim : 28 - rim, rim : 28 - rim]
        there[:] = random.normal(0, noise, there.shape).clip(0, 255)
        with pytest.raises(ImageError, match="no strokes found"):
            to_model_input(Image.fromarray(black))


@pytest.mark.parametrize("side", [28, 40, 100, 1000])
@pytest.mark.parametrize("paper", [0, 255])
def test_specks_alone_are_blank(side: int, paper: int) -> None:
    random = np.random.default_rng(13)
    for speck in (1, 2, 3):
        page = np.full((side, side), paper, np.uint8)
        for y, x in random.integers(2, side - 6, (speck, 2)):
            page[y : y + speck, x : x + speck] = 255 - paper
        with pytest.raises(ImageError, match="no strokes found"):
            fit(page)
