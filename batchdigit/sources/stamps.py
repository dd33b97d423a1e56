"""By what a change of a file shows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.sources.filelist import FileList

NANOSECONDS_TO_SETTLE = 2_000_000_000
UNKNOWN = -1
UNSETTLED = -2


@dataclass(frozen=True)
class Stamps:
    """By what a change of N files shows.

    ``sizes`` int64[N] in bytes, ``times`` int64[N] of the last modification in nanoseconds. Both
    are UNKNOWN for a file that cannot be looked at, and UNSETTLED for one that could still change
    without showing it.
    """

    sizes: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def unknown(cls, count: int) -> Stamps:
        """Those of files that nobody looked at."""
        return cls(np.full(count, UNKNOWN, dtype=np.int64), np.full(count, UNKNOWN, dtype=np.int64))

    def at(self, places: NDArray[Any]) -> Stamps:
        """Those at some places: positions, or a mask."""
        return Stamps(self.sizes[places], self.times[places])

    def equals(self, others: Stamps) -> NDArray[np.bool_]:
        """Where a file is certain to be as it was, bool[N]."""
        same: NDArray[np.bool_] = (self.sizes == others.sizes) & (self.times == others.times)
        return same & (self.sizes >= 0)


def stamp_files(files: FileList, *, follow_symlinks: bool = False) -> Stamps:
    """Look at the size and the time of every file.

    A file that was modified less than two seconds ago is UNSETTLED: it could be modified once more
    without its time changing (FAT counts in two seconds, others in ticks of the kernel).
    """
    stamps = Stamps.unknown(len(files))
    for index in range(len(files)):
        try:
            status = os.stat(files.path(index), follow_symlinks=follow_symlinks)
        except OSError:
            continue
        settled = abs(time.time_ns() - status.st_mtime_ns) >= NANOSECONDS_TO_SETTLE
        stamps.sizes[index] = status.st_size if settled else UNSETTLED
        stamps.times[index] = status.st_mtime_ns if settled else UNSETTLED
    return stamps
