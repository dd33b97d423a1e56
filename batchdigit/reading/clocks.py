"""Which image each worker process is reading, or that it reads none, and since when."""

from __future__ import annotations

import mmap
import multiprocessing
import sys
import time
from typing import Any

from batchdigit.system.new_process import SharedMemory

SECONDS_TO_START = 60.0


class FileClocks:
    """Which image each of several processes is reading, or none, and since when, in shared memory.

    Without a ``start_method`` the memory is this process's alone. Times are those of
    ``time.monotonic()``, which is one clock for all processes.
    """

    def __init__(self, count: int, start_method: str | None) -> None:
        self._memory: SharedMemory | None = None
        self._cells: Any = [0.0] * 2 * count
        if start_method == "fork":
            # Not a mapped file: where /dev/shm is full, writing to one there is a bus error.
            self._cells = memoryview(mmap.mmap(-1, 16 * count)).cast("d")
        elif start_method is not None and sys.platform == "win32":
            context: Any = multiprocessing.get_context(start_method)
            self._cells = context.RawArray("d", 2 * count)
        elif start_method is not None:
            self._memory = SharedMemory(16 * count)
            self._cells = memoryview(self._memory.map).cast("d")
        for place in range(count):  # a process that never starts is stuck, too
            self._cells[2 * place] = time.monotonic() + SECONDS_TO_START

    def __getstate__(self) -> tuple[SharedMemory | None, Any]:
        return self._memory, None if self._memory else self._cells

    def __setstate__(self, state: tuple[SharedMemory | None, Any]) -> None:
        self._memory, self._cells = state
        if self._memory is not None:
            self._cells = memoryview(self._memory.map).cast("d")

    def start(self, place: int, index: int) -> None:
        """The process at ``place`` begins the image at ``index``."""
        self._cells[2 * place + 1] = index
        self._cells[2 * place] = time.monotonic()

    def stop(self, place: int) -> None:
        """The process at ``place`` is reading no image."""
        self._cells[2 * place] = -time.monotonic()

    def file(self, place: int) -> int | None:
        """The image that the process at ``place`` is reading, or was reading when it died."""
        at_work = 0 < self._cells[2 * place] <= time.monotonic()
        return int(self._cells[2 * place + 1]) if at_work else None

    def is_silent(self, place: int, seconds: float, since: float) -> bool:
        """Whether the process has started, but read no image for over ``seconds`` since ``since``.

        Ask this of one whose batch is waited for.
        """
        idle_since = -self._cells[2 * place]
        return bool(idle_since >= 0) and time.monotonic() - max(since, idle_since) > seconds

    def is_stuck(self, place: int, seconds: float, awake_since: float) -> bool:
        """Whether the process has spent over ``seconds`` on its image since ``awake_since``."""
        since = self._cells[2 * place]
        return bool(since > 0) and time.monotonic() - max(since, awake_since) > seconds
