"""From any decoded image to the 28x28 grey pixels that the network was trained on.

``exact`` takes pixels as they are, and resizes where the size differs. ``fit`` finds the digit and
brings it to what MNIST's digits look like (:mod:`batchdigit.images.fit`). ``auto`` leaves alone
what looks like MNIST already, and fits the rest.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from batchdigit.batches import Digit, Treatment
from batchdigit.errors import ImageError
from batchdigit.images.fit import fit
from batchdigit.images.strokes import border

SIZE = (28, 28)
ENOUGH_PIXELS = 512  # for the larger side of a picture that is to be fitted
FEW_DARK = 0.005  # of what is not transparent
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# Over its 60,000 training images: the larger side of a digit's box is 19 or 20 pixels, its centre
# of mass between 13.48 and 14.50 (pixels count from 0).
_DIGIT_SIDES = (19, 20)
_CENTRE = (13.4, 14.6)
_INTEGER_WHITES = (255.0, 1023.0, 4095.0, 65535.0)
_MOST_INK = 0.45  # the most there is 0.398


def to_model_input(image: Image.Image | NDArray[np.uint8], how: str = "auto") -> Digit:
    """What the network gets to see of an image; ``how`` is ``auto``, ``exact`` or ``fit``.

    The image is as Pillow decoded it, or its grey pixels uint8[H, W].

    Every image is turned by its EXIF orientation, laid over white where it is transparent (if it is
    to be fitted and bright, over black), and reduced to 8-bit grey (ITU-R 601-2 luma, Pillow's
    ``L``). ``exact`` then takes 28x28 pixels as
    ``torchvision``'s ``ToTensor`` would, and resizes others by an antialiased bilinear filter.

    Raises ImageError when the pixel values have no meaning (not finite), and when there are no
    strokes (``blank``; not with ``exact``).
    """
    pixels = to_grey(image, how)
    if how == "exact":
        if pixels.shape != SIZE:
            grey = Image.fromarray(pixels).resize(SIZE, Image.Resampling.BILINEAR)
            pixels = np.asarray(grey)
        return Digit(pixels, Treatment.DARK if _seems_inverted(pixels) else Treatment.AS_IT_IS)
    if how == "auto" and pixels.shape == SIZE:
        likeness = look_like_mnist(pixels[None])
        if likeness.mnist[0]:
            return Digit(pixels, ink=float(likeness.ink[0]))
    return fit(pixels)


def to_grey(image: Image.Image | NDArray[np.uint8], how: str = "auto") -> NDArray[np.uint8]:
    """The first half of :func:`to_model_input`: the grey pixels uint8[H, W], upright."""
    if isinstance(image, np.ndarray):
        return image
    return np.asarray(_to_grey(_upright(image), see_white=how != "exact"))


class Likeness(NamedTuple):
    """How B images look: like MNIST's or not, bool[B], and their share of ink, float64[B]."""

    mnist: NDArray[np.bool_]
    ink: NDArray[np.float64]


def look_like_mnist(images: NDArray[np.uint8]) -> Likeness:
    """Whether uint8[B, 28, 28] are black but for a digit as large and as central as MNIST's.

    For many at once, which takes a fifth of the time that one by one takes.
    """
    rows, columns = (images.sum(axis=axis, dtype=np.int32) for axis in (2, 1))
    side = np.maximum(_extent(rows), _extent(columns))
    mnist = (side >= _DIGIT_SIDES[0]) & (side <= _DIGIT_SIDES[1])
    total = np.maximum(rows.sum(axis=1), 1)
    for sums in (rows, columns):
        centre = sums @ np.arange(sums.shape[1]) / total
        mnist &= (_CENTRE[0] < centre) & (centre < _CENTRE[1])
    ink = (images >> 7).sum(axis=(1, 2), dtype=np.uint16) / (SIZE[0] * SIZE[1])
    return Likeness(mnist & (ink < _MOST_INK), ink)


def _extent(sums: NDArray[np.int32]) -> NDArray[np.int64]:
    """From the first to the last that is not 0, of each row of [B, N]; N where all are."""
    there = sums > 0
    return there.shape[1] - there.argmax(axis=1) - there[:, ::-1].argmax(axis=1)


def _seems_inverted(pixels: NDArray[np.uint8]) -> bool:
    """Whether most of the outermost pixels are bright, as they are around dark ink on paper."""
    rim = border(pixels)
    return 2 * np.count_nonzero(rim & 128) > len(rim)


def _upright(image: Image.Image) -> Image.Image:
    # Broken EXIF makes Pillow raise almost anything, yet the pixels are sound: without a readable
    # orientation an image is upright.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_grey(image: Image.Image, *, see_white: bool) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bit(image, see_white=see_white)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        paper = 0 if see_white and _is_bright(rgba) else 255
        return Image.alpha_composite(
            Image.new("RGBA", rgba.size, (paper, paper, paper, 255)), rgba
        ).convert("L")
    if image.mode in ("L", "1", "RGB"):
        return image.convert("L")
    return image.convert("RGB").convert("L")


def _is_bright(rgba: Image.Image) -> bool:
    """Whether all but a few of the pixels that are not transparent are bright.

    They are strokes then, that cannot be seen on white. A page with ink on it is not all bright.
    """
    levels = np.asarray(rgba.convert("L"))[np.asarray(rgba.getchannel("A")) >= 128]
    return levels.size > 0 and bool(np.count_nonzero(levels < 128) <= FEW_DARK * levels.size)


def _scale_to_8_bit(image: Image.Image, *, see_white: bool) -> Image.Image:
    """8-bit grey from 16-bit, 32-bit and floating-point grey.

    A file of these modes does not say what its white is. Integers are taken as 16-bit unless a
    value lies outside, floating point as 0..1 or else 0..255 unless a value lies outside; then
    the darkest value becomes black and the brightest white. Where the image is to be fitted,
    integers may also be of 8, 10 or 12 bits, as cameras and scanners write them.
    """
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("decode", "some pixel values are not finite numbers")
    low, high = float(values.min()), float(values.max())
    whites = (1.0, 255.0) if image.mode == "F" else _INTEGER_WHITES if see_white else (65535.0,)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    transparent = values == image.info.get("transparency")
    if white is None:
        values, white = values - low, (high - low) or 1.0
    seen = values[~transparent]
    bright = see_white and seen.size and np.count_nonzero(seen < white / 2) <= FEW_DARK * seen.size
    values[transparent] = 0 if bright else white
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
