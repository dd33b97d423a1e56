"""The thousand MNIST digits that the package carries, to compare ways to compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchdigit.models.network import IMAGE_SIZE

DIGITS = Path(__file__).parents[1] / "weights" / "digits.png"


def packaged_digits() -> NDArray[np.uint8]:
    """The digits, uint8[1000, 1, 28, 28], white strokes on black: a 0, a 1, ... a 9, a 0, ..."""
    with Image.open(DIGITS) as sheet:
        pixels = np.asarray(sheet)
    rows, columns = (size // IMAGE_SIZE for size in pixels.shape)
    digits = pixels.reshape(rows, IMAGE_SIZE, columns, IMAGE_SIZE).swapaxes(1, 2)
    images: NDArray[np.uint8] = digits.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE).copy()
    return images
