"""The plan that worker processes follow, and how a death is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Batch
from batchdigit.reading.clocks import FileClocks

BYTES_AHEAD = 8 << 20  # of pixels, in all processes together
MIN_AHEAD, MAX_AHEAD = 2, 64  # batches, for each process


class WorkerDied(Exception):  # noqa: N818  (not an error: the reader continues)
    """A worker process died or is stuck; ``index`` is the image it was reading, if any."""

    def __init__(self, index: int | None) -> None:
        super().__init__(index)
        self.index = index


class Files(Protocol):
    """Images that a process can read in batches."""

    def __getitems__(self, indices: Sequence[int], /) -> Batch: ...

    def memory(self, batch_size: int) -> int:
        """How many bytes a process that reads batches of ``batch_size`` may take for them."""

    def report_to(self, clocks: FileClocks, place: int) -> None:
        """Tell ``clocks`` which image is being read, as the process at ``place``."""


class Workers(Protocol):
    """Worker processes that read the batches of a plan, in order."""

    def __next__(self) -> Batch:
        """The next batch. Raises WorkerDied, after which all processes have ended."""

    def end(self) -> None:
        """End the processes within moments, whatever they are doing."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Which batches to read, by number; batch n is the n-th run of ``batch_size`` ``places``.

    ``places``, int64[N] ascending, are positions in a list of images, each of which becomes
    ``image_bytes`` of pixels.
    """

    places: NDArray[np.int64]
    batch_size: int
    numbers: Sequence[int]
    image_bytes: int

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.indices, self.numbers)

    def indices(self, number: int) -> list[int]:
        """The positions of the images in batch ``number``."""
        start = number * self.batch_size
        indices: list[int] = self.places[start : start + self.batch_size].tolist()
        return indices

    def batch_of(self, index: int) -> int:
        """The number of the batch that holds the image at ``index``."""
        return int(np.searchsorted(self.places, index)) // self.batch_size

    def share(self, place: int, count: int) -> Plan:
        """The part of the process at ``place`` of ``count``: they take turns."""
        return replace(self, numbers=self.numbers[place::count])

    def batches_ahead(self, count: int) -> int:
        """How many batches each of ``count`` processes may have ready, bounded by their bytes.

        The network may be busy, or not even loaded, while they read.
        """
        wanted = BYTES_AHEAD // (self.batch_size * self.image_bytes * count)
        return min(max(wanted, MIN_AHEAD), MAX_AHEAD)


OpenWorkers = Callable[[Files, Plan, int, str, float], Workers]
"""Called with images, plan, number of processes, start method, and seconds allowed for an image."""
