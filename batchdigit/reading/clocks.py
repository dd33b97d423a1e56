"""Which image each worker process is reading, and since when."""

from __future__ import annotations

import mmap
import multiprocessing
import time
from typing import Any

SECONDS_TO_START = 60.0


class FileClocks:
    """Which image each of several processes is reading, and since when, in shared memory.

    Without a ``start_method`` the memory is this process's alone. Times are those of
    ``time.monotonic()``, which is one clock for all processes.
    """

    def __init__(self, count: int, start_method: str | None) -> None:
        self._cells = _shared_cells(2 * count, start_method)
        for place in range(count):  # a process that never starts is stuck, too
            self._cells[2 * place] = time.monotonic() + SECONDS_TO_START

    def start(self, place: int, index: int) -> None:
        """The process at ``place`` begins the image at ``index``."""
        self._cells[2 * place + 1] = index
        self._cells[2 * place] = time.monotonic()

    def stop(self, place: int) -> None:
        """The process at ``place`` is reading no image."""
        self._cells[2 * place] = 0.0

    def file(self, place: int) -> int | None:
        """The image that the process at ``place`` is reading, or was reading when it died."""
        at_work = 0 < self._cells[2 * place] <= time.monotonic()
        return int(self._cells[2 * place + 1]) if at_work else None

    def is_idle(self, place: int) -> bool:
        """Whether the process at ``place`` has started and is reading no image."""
        return bool(self._cells[2 * place] == 0.0)

    def is_stuck(self, place: int, seconds: float, awake_since: float) -> bool:
        """Whether the process has spent over ``seconds`` on its image since ``awake_since``."""
        since = self._cells[2 * place]
        return bool(since > 0) and time.monotonic() - max(since, awake_since) > seconds


def _shared_cells(count: int, start_method: str | None) -> Any:
    """float64[count] of zeros, in memory shared with the processes that this one starts."""
    if start_method is None:
        return [0.0] * count
    if start_method == "fork":
        # Not a mapped file: where /dev/shm is full, writing to one there is a bus error.
        return memoryview(mmap.mmap(-1, 8 * count)).cast("d")
    context: Any = multiprocessing.get_context(start_method)
    return context.RawArray("d", count)
