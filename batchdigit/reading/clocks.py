"""At which file each process that reads is, and since when."""

from __future__ import annotations

import mmap
import multiprocessing
import time
from typing import Any

SECONDS_TO_START = 60.0


class FileClocks:
    """At which file each of several processes is, and since when, in memory that they share.

    Without a ``start_method`` it is for this process alone. Times are those of
    ``time.monotonic()``, which all processes share.
    """

    def __init__(self, count: int, start_method: str | None) -> None:
        self._cells = _shared_cells(2 * count, start_method)
        for place in range(count):  # a process that does not even start is stuck as well
            self._cells[2 * place] = time.monotonic() + SECONDS_TO_START

    def start(self, place: int, index: int) -> None:
        """The process at ``place`` begins the file at ``index``."""
        self._cells[2 * place + 1] = index
        self._cells[2 * place] = time.monotonic()

    def stop(self, place: int) -> None:
        """The process at ``place`` is at no file."""
        self._cells[2 * place] = 0.0

    def file(self, place: int) -> int | None:
        """At which file the process at ``place`` is, or was when it died."""
        at_work = 0 < self._cells[2 * place] <= time.monotonic()
        return int(self._cells[2 * place + 1]) if at_work else None

    def is_idle(self, place: int) -> bool:
        """Whether the process at ``place`` has begun and is at no file."""
        return bool(self._cells[2 * place] == 0.0)

    def is_stuck(self, place: int, seconds: float, awake_since: float) -> bool:
        """Whether the process is at a file for longer than ``seconds`` in which all were awake."""
        since = self._cells[2 * place]
        return bool(since > 0) and time.monotonic() - max(since, awake_since) > seconds


def _shared_cells(count: int, start_method: str | None) -> Any:
    """Zeros, float64[count], in memory that this process shares with those that it starts."""
    if start_method is None:
        return [0.0] * count
    if start_method == "fork":
        # Not in a file: where /dev/shm is full, writing to one there is a bus error.
        return memoryview(mmap.mmap(-1, 8 * count)).cast("d")
    context: Any = multiprocessing.get_context(start_method)
    return context.RawArray("d", count)
