"""By what a change of an image shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
UNSETTLED = -(2**63)  # earlier than any time


@dataclass(frozen=True)
class Stamps:
    """By what a change of N images shows.

    ``sizes`` int64[N] in bytes, UNKNOWN for one that cannot be looked at; ``times`` int64[N] of the
    last modification in nanoseconds, or any other number that changes with the image, UNSETTLED
    where the image could still change without the number doing so.
    """

    sizes: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def unknown(cls, count: int) -> Stamps:
        """Those of images that nobody looked at."""
        sizes, times = np.full((2, count), UNKNOWN, dtype=np.int64)
        return cls(sizes, times)

    def at(self, places: NDArray[Any]) -> Stamps:
        """Those at some places: positions, or a mask."""
        return Stamps(self.sizes[places], self.times[places])

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Where an image could not change without its stamp doing so, bool[N]."""
        settled: NDArray[np.bool_] = self.times != UNSETTLED
        return settled

    def equals(self, others: Stamps) -> NDArray[np.bool_]:
        """Where an image is certain to be as it was, bool[N]."""
        same: NDArray[np.bool_] = (self.sizes == others.sizes) & (self.times == others.times)
        return same & (self.sizes >= 0) & self.settled
