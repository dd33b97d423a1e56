"""From any decoded image to the 28x28 grey pixels that the network was trained on."""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from batchdigit.errors import ImageError

SIZE = (28, 28)
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def to_model_input(image: Image.Image) -> NDArray[np.uint8]:
    """Grey pixels uint8[28, 28] of an image, 0 black to 255 white.

    An 8-bit grey image of 28x28 passes pixel for pixel, as ``torchvision``'s ``ToTensor`` would
    take it. Every other one is turned by its EXIF orientation, laid over white where it is
    transparent, reduced to 8-bit grey (ITU-R 601-2 luma, Pillow's ``L``) and resized to 28x28
    by an antialiased bilinear filter.

    Raises ImageError when the pixel values have no meaning (not finite).
    """
    if image.mode == "L" and image.size == SIZE:
        return np.asarray(image)
    grey = _to_grey(_upright(image))
    if grey.size != SIZE:
        grey = grey.resize(SIZE, Image.Resampling.BILINEAR)
    return np.asarray(grey)


def _upright(image: Image.Image) -> Image.Image:
    # Broken EXIF makes Pillow raise almost anything, yet the pixels are sound: without a readable
    # orientation an image is upright.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bit(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("L")
    if image.mode in ("L", "1", "RGB"):
        return image.convert("L")
    return image.convert("RGB").convert("L")


def _scale_to_8_bit(image: Image.Image) -> Image.Image:
    """8-bit grey from 16-bit, 32-bit and floating-point grey.

    A file of these modes does not say what its white is. Integers are taken as 16-bit unless a
    value lies outside, floating point as 0..1 or else 0..255 unless a value lies outside; then
    the darkest value becomes black and the brightest white.
    """
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("decode", "some pixel values are not finite numbers")
    low, high = float(values.min()), float(values.max())
    whites = (1.0, 255.0) if image.mode == "F" else (65535.0,)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    transparent = values == image.info.get("transparency")
    if white is None:
        values, white = values - low, (high - low) or 1.0
    values[transparent] = white
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
