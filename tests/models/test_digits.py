"""The digits that the package carries."""

import numpy as np
import torch
from PIL import Image

from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.digits import DIGITS, packaged_digits


def test_they_are_a_thousand_that_the_model_reads() -> None:
    digits = packaged_digits()
    assert digits.shape == (1000, 1, 28, 28)
    assert (digits.dtype, digits.min(), digits.max()) == (np.uint8, 0, 255)
    images = torch.from_numpy(digits).float() / 255
    with torch.inference_mode():
        found = load_checkpoint(PACKAGED_WEIGHTS).model(images).argmax(1)
    labels = torch.arange(1000) % 10
    assert (found == labels).sum() > 990


def test_they_stand_row_by_row_on_a_sheet() -> None:
    """Pillow, cutting them out one by one, finds the same."""
    digits = packaged_digits()
    with Image.open(DIGITS) as sheet:
        across = sheet.width // 28
        for number in (0, 1, 39, 40, 41, 999):
            x, y = number % across * 28, number // across * 28
            assert np.array_equal(digits[number, 0], sheet.crop((x, y, x + 28, y + 28)))


def test_they_may_be_changed() -> None:
    digits = packaged_digits()
    digits[:] = 0
    assert packaged_digits().any()
