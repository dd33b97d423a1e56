"""From any decoded image to the 28x28 grey pixels that the network was trained on.

``exact`` takes pixels as they are, and resizes where the size differs. ``fit`` finds the digit and
brings it to what MNIST's digits look like (:mod:`batchdigit.fit`). ``auto`` leaves alone what
looks like MNIST already, and fits the rest.
"""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from batchdigit.errors import ImageError
from batchdigit.fit import fit
from batchdigit.records import Digit, Treatment
from batchdigit.strokes import border

SIZE = (28, 28)
ENOUGH_PIXELS = 512  # for the larger side of a picture that is to be fitted
FEW_DARK = 0.005  # of what is not transparent
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# Over its 60,000 training images: the larger side of a digit's box is 19 or 20 pixels, its centre
# of mass between 13.48 and 14.50 (pixels count from 0).
_DIGIT_SIDES = (19, 20)
_CENTRE = (13.4, 14.6)
_COLUMNS_ROWS_ONES = np.array(
    [axis.ravel() for axis in (*np.indices(SIZE)[::-1], np.ones(SIZE))], np.float32
)
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
    if isinstance(image, np.ndarray):
        pixels = image
    else:
        pixels = np.asarray(_to_grey(_upright(image), see_white=how != "exact"))
    if how == "exact":
        if pixels.shape != SIZE:
            grey = Image.fromarray(pixels).resize(SIZE, Image.Resampling.BILINEAR)
            pixels = np.asarray(grey)
        return Digit(pixels, Treatment.DARK if _seems_inverted(pixels) else Treatment.AS_IT_IS)
    if how == "auto" and pixels.shape == SIZE and looks_like_mnist(pixels):
        return Digit(pixels, ink=ink_share(pixels))
    return fit(pixels)


def looks_like_mnist(pixels: NDArray[np.uint8]) -> bool:
    """Whether uint8[28, 28] is black but for a digit that is as large and as central as MNIST's."""
    _, _, width, height = cv2.boundingRect(pixels)
    if max(width, height) not in _DIGIT_SIDES:
        return False
    # A third of the time of cv2.moments; exact, as all sums are whole numbers below 2**24.
    sums = _COLUMNS_ROWS_ONES @ pixels.ravel().astype(np.float32)
    x, y = (sums[:2] / sums[2]).tolist()
    central = _CENTRE[0] < x < _CENTRE[1] and _CENTRE[0] < y < _CENTRE[1]
    return central and ink_share(pixels) < _MOST_INK


def ink_share(pixels: NDArray[np.uint8]) -> float:
    """The share of pixels that are rather white than black."""
    return float(cv2.countNonZero(pixels & 128) / pixels.size)


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
