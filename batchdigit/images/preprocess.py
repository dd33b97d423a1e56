"""From any decoded image to the pixels that a network was trained on.

``exact`` takes pixels as they are, and resizes images of another size. ``fit`` finds the digit and
makes it look like MNIST's digits (:mod:`batchdigit.images.fit`). ``auto`` leaves alone what looks
like MNIST already, and fits the rest. What both give, 28x28 grey pixels, is then brought to the
size that the network takes.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from batchdigit.batches import Digit, Treatment
from batchdigit.errors import ImageError
from batchdigit.images.containers import check_exif
from batchdigit.images.fit import fit
from batchdigit.images.strokes import border
from batchdigit.modelfiles.declaration import DARK_ON_LIGHT
from batchdigit.models.placing import placed
from batchdigit.models.spec import MNIST, InputSpec

ENOUGH_PIXELS = 512  # for the larger side of a picture that is to be fitted
MAX_DARK = 0.005  # the share of dark pixels, where not transparent, in a bright picture
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# In MNIST's 60,000 training images the larger side of a digit's box is 19 or 20 pixels, and its
# centre of mass lies between 13.48 and 14.50 (pixels count from 0).
_DIGIT_SIDES = (19, 20)
_CENTRE = (13.4, 14.6)
# Their brightness, weighted with itself so that neither soft edges nor one bright speck count for
# much, is 153.5 or more in all of MNIST's 70,000 images. Half as bright, it is 128 at most.
_BRIGHT = 150.0
_INTEGER_WHITES = (255.0, 1023.0, 4095.0, 65535.0)
_MAX_INK = 0.45  # a share; the largest in MNIST is 0.398


def to_model_input(
    image: Image.Image | NDArray[np.uint8], how: str = "auto", spec: InputSpec = MNIST
) -> Digit:
    """What the network gets to see of an image; ``how`` is ``auto``, ``exact`` or ``fit``.

    The image is as Pillow decoded it, or its pixels uint8[H, W], or uint8[H, W, 3] if ``exact``
    reads them for a network of three channels.

    Every image is turned by its EXIF orientation, laid over white where it is transparent (over
    black, if it is bright and to be fitted), and reduced to 8-bit grey (ITU-R 601-2 luma, Pillow's
    ``L``) or to 8-bit RGB. ``exact`` then takes pixels as ``torchvision``'s ``ToTensor`` would, and
    resizes those of another size than ``spec`` declares. For a network of dark strokes on a light
    ground, those that are dark already reach it as they are.

    Raises ImageError where pixel values are not finite (``decode``), and where there are no strokes
    (``blank``; not with ``exact``), and ValueError for any other ``how``.
    """
    pixels = to_pixels(image, how, spec)
    if how == "exact":
        dark = _seems_inverted(_in_grey(pixels))  # judged before there is a dark margin
        if dark and spec.expects == DARK_ON_LIGHT:
            pixels = ~pixels  # light strokes are what all else is told of; they are turned again
        pixels = placed(pixels, spec)
        if dark:
            return Digit(pixels, Treatment.DARK)
        faint = _is_faint(_in_grey(pixels))
        return Digit(pixels, Treatment.FAINT if faint else Treatment.AS_IT_IS)
    if how == "auto" and pixels.shape == MNIST.plane:
        likeness = look_like_mnist(pixels[None])
        if likeness.mnist[0]:
            return _of_size(Digit(pixels, ink=float(likeness.ink[0])), spec)
    if how not in ("auto", "fit"):
        raise ValueError(f"no way to prepare images is called {how!r}")
    return _of_size(fit(pixels), spec)


def _in_grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _of_size(digit: Digit, spec: InputSpec) -> Digit:
    return digit._replace(pixels=placed(digit.pixels, spec))


def to_pixels(
    image: Image.Image | NDArray[np.uint8], how: str = "auto", spec: InputSpec = MNIST
) -> NDArray[np.uint8]:
    """The first half of :func:`to_model_input`: the pixels, upright.

    They are uint8[H, W], or uint8[H, W, 3] where colours count.
    """
    if isinstance(image, np.ndarray):
        return image
    upright = _upright(image)
    if how == "exact" and spec.channels > 1:
        return np.asarray(_to_colour(upright))
    return np.asarray(_to_grey(upright, see_white=how != "exact"))


class Likeness(NamedTuple):
    """How B images look: whether like MNIST's, bool[B], and their share of ink, float64[B]."""

    mnist: NDArray[np.bool_]
    ink: NDArray[np.float64]


def look_like_mnist(images: NDArray[np.uint8]) -> Likeness:
    """Whether images uint8[B, 28, 28] are black except for a digit as MNIST has them.

    That is, of MNIST's size, place and brightness. Judging many at once takes a sixth of the time
    of judging one by one.
    """
    # Sums of integers in floating point are exact up to 2**24, and take half the time.
    levels = images.astype(np.float32)
    rows, columns = (np.einsum(axes, levels).astype(np.int32) for axes in ("byx->by", "byx->bx"))
    side = np.maximum(_extent(rows), _extent(columns))
    mnist = (side >= _DIGIT_SIDES[0]) & (side <= _DIGIT_SIDES[1])
    total = np.maximum(rows.sum(axis=1), 1)
    for sums in (rows, columns):
        centre = sums @ np.arange(sums.shape[1]) / total
        mnist &= (_CENTRE[0] < centre) & (centre < _CENTRE[1])
    mnist &= np.einsum("byx,byx->b", levels, levels) >= _BRIGHT * total
    ink = (images >> 7).sum(axis=(1, 2), dtype=np.uint16) / MNIST.pixels
    return Likeness(mnist & (ink < _MAX_INK), ink)


def _extent(sums: NDArray[np.int32]) -> NDArray[np.int64]:
    """How far it is from the first to the last that is not 0, in each row of [B, N]; N for none."""
    there = sums > 0
    return there.shape[1] - there.argmax(axis=1) - there[:, ::-1].argmax(axis=1)


def _is_faint(pixels: NDArray[np.uint8]) -> bool:
    """Whether no image of MNIST's is as dark, counting what is brighter than black."""
    return cv2.norm(pixels, cv2.NORM_L2SQR) < _BRIGHT * max(cv2.sumElems(pixels)[0], 1)


def _seems_inverted(pixels: NDArray[np.uint8]) -> bool:
    """Whether most of the outermost pixels are bright, as they are around dark ink on paper."""
    rim = border(pixels)
    return 2 * np.count_nonzero(rim & 128) > len(rim)


def _upright(image: Image.Image) -> Image.Image:
    check_exif(image.info)
    # Broken EXIF makes Pillow raise almost anything, although the pixels are sound. An image
    # without a readable orientation is upright.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_grey(image: Image.Image, *, see_white: bool) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bit(image, see_white=see_white)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = 0 if see_white and _is_bright(rgba) else 255
        return Image.alpha_composite(
            Image.new("RGBA", rgba.size, (paper, paper, paper, 255)), rgba
        ).convert("L")
    if image.mode in ("L", "1", "RGB"):
        return image.convert("L")
    return image.convert("RGB").convert("L")


def _to_colour(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent is white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bit(image, see_white=False).convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return image.convert("RGB")


def _is_bright(rgba: Image.Image) -> bool:
    """Whether nearly all of the pixels that are not transparent are bright.

    Then they are strokes, which nobody could see on white. A page with ink on it is not all bright.
    """
    levels = np.asarray(rgba.convert("L"))[np.asarray(rgba.getchannel("A")) >= 128]
    return levels.size > 0 and bool(np.count_nonzero(levels < 128) <= MAX_DARK * levels.size)


def _scale_to_8_bit(image: Image.Image, *, see_white: bool) -> Image.Image:
    """8-bit grey from 16-bit, 32-bit and floating-point grey.

    A file of these modes does not say which value is white. Integers count as 16-bit; floating
    point counts as 0 to 1, or else as 0 to 255. Where a value lies outside, the darkest value
    becomes black and the brightest white. Where the image is to be fitted, integers may also be of
    8, 10 or 12 bits, as cameras and scanners write them.
    """
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("decode", "some pixel values are not finite numbers")
    low, high = float(values.min()), float(values.max())
    whites = (1.0, 255.0) if image.mode == "F" else _INTEGER_WHITES if see_white else (65535.0,)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    # In place, because an image may have a hundred million pixels.
    clear = image.info.get("transparency")
    transparent = None if clear is None else values == clear
    if white is None:
        values -= low
        white = (high - low) or 1.0
    if transparent is not None:
        seen = values[~transparent]
        dark = np.count_nonzero(seen < white / 2)
        bright = see_white and seen.size and dark <= MAX_DARK * seen.size
        values[transparent] = 0 if bright else white
    values *= 255 / white
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8))
