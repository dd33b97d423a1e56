"""What a file of weights does not say: the mean and the deviation that pixels were given with."""

from __future__ import annotations

import math

from batchdigit.errors import UsageError

MAX_NORMALISED = 100_000.0  # pixels of 16 bits come to 65,535


def flags(mean: float, std: float) -> str:
    """The options that declare a mean and a standard deviation."""
    return f"--mean {mean:.5g} --std {std:.5g}"


def inverted(mean: float, std: float) -> tuple[float, float]:
    """The mean and the deviation that give a network 1 - p for a pixel p from 0 to 1."""
    return 1 - mean, -std


def check_normalisation(mean: float | None, std: float | None) -> None:
    """Raise UsageError for a mean or a standard deviation that pixels cannot be scaled by.

    Both are for pixels from 0 to 1: a network gets (pixel / 255 - mean) / std. None for both leaves
    pixels as the network takes them anyway.
    """
    if (mean is None) != (std is None):
        raise UsageError(
            "--mean and --std go together, and only one is given",
            "give both; --mean 0 subtracts nothing, --std 1 divides by nothing",
        )
    if mean is None or std is None:
        return
    if not math.isfinite(mean) or abs(mean) > MAX_NORMALISED:
        raise UsageError(
            f"--mean {mean:g} is no mean of pixels from 0 to 1", "divide a mean of 0 to 255 by 255"
        )
    if not 1 / MAX_NORMALISED <= abs(std) <= MAX_NORMALISED:
        raise UsageError(
            f"--std {std:g} is no standard deviation of pixels from 0 to 1",
            "divide one of 0 to 255 by 255; a negative one inverts",
        )
