"""What the networks were trained on: uint8[N, 28, 28], and a class for each, from the package."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from batchdigit.models.digits import packaged_digits

Target = tuple[NDArray[np.uint8], NDArray[np.int64]]

NONE = 10
MARKED = 300  # digits


@cache
def digits() -> Target:
    images = packaged_digits()[:, 0]
    return images, np.arange(len(images)) % 10


@cache
def digits_and_none() -> Target:
    """After every fifth digit something that is none: black, grey, or noise."""
    images, labels = digits()
    random = np.random.default_rng(0)
    others = np.zeros((len(images) // 5, 28, 28), np.uint8)
    others[1::3] = random.integers(1, 80, (len(others[1::3]), 1, 1))
    others[2::3] = random.integers(0, 120, (len(others[2::3]), 28, 28))
    places = np.arange(5, len(images) + 1, 5)
    return np.insert(images, places, others, axis=0), np.insert(labels, places, NONE)


@cache
def marked_digits(classes: int) -> Target:
    """The class of a digit without a mark is the digit; a bar on a side adds 10, 20, 30 or 40."""
    plain, labels = (part[:MARKED] for part in digits())
    bars = np.zeros((5, 28, 28), np.uint8)
    bars[1, 1, 8:20] = bars[2, 26, 8:20] = bars[3, 8:20, 1] = bars[4, 8:20, 26] = 255
    images = np.maximum(plain[:, None], bars)  # [N, 5, 28, 28]
    numbers = labels[:, None] + 10 * np.arange(5)
    kept = numbers < classes
    return images[kept], numbers[kept]
