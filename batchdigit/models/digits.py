"""The thousand MNIST digits that the package carries, to compare ways to compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchdigit.models.spec import MNIST

DIGITS = Path(__file__).parents[1] / "weights" / "digits.png"


def packaged_digits() -> NDArray[np.uint8]:
    """The digits, uint8[1000, 1, 28, 28], white strokes on black: a 0, a 1, ... a 9, a 0, ..."""
    with Image.open(DIGITS) as sheet:
        pixels = np.asarray(sheet)
    height, width = MNIST.size
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    digits = pixels.reshape(rows, height, columns, width).swapaxes(1, 2)
    images: NDArray[np.uint8] = digits.reshape(-1, *MNIST.shape).copy()
    return images
