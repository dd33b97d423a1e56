"""Stamps, which show whether an image has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
UNSETTLED = -(2**63)  # earlier than any time


@dataclass(frozen=True, eq=False)
class Stamps:
    """What shows whether any of N images has changed.

    ``sizes`` int64[N] are in bytes, UNKNOWN for an image that cannot be examined. ``times``
    int64[N] are those of the last modification in nanoseconds, or other numbers that change with
    the image, UNSETTLED for an image that could still change without the number changing.
    """

    sizes: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def unknown(cls, count: int) -> Stamps:
        """The stamps of images that were not examined."""
        sizes, times = np.full((2, count), UNKNOWN, dtype=np.int64)
        return cls(sizes, times)

    def at(self, places: NDArray[Any]) -> Stamps:
        """The stamps at ``places``: positions or a mask."""
        return Stamps(self.sizes[places], self.times[places])

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Which images cannot change without their stamps changing, bool[N]."""
        settled: NDArray[np.bool_] = self.times != UNSETTLED
        return settled

    def equals(self, others: Stamps) -> NDArray[np.bool_]:
        """Which images are certain to be unchanged, bool[N]."""
        same: NDArray[np.bool_] = (self.sizes == others.sizes) & (self.times == others.times)
        return same & (self.sizes >= 0) & self.settled
