"""A setting of the whole process that several callers need at the same value for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SharedSetting(Generic[Value]):
    """A context manager that keeps a setting at ``wanted`` while anybody is inside.

    Blocks may nest, and threads may enter and leave in any order. The first to enter saves the
    setting and changes it; the last to leave puts back what was saved. ``write`` is called only
    where the value that ``read`` returns is not yet the right one.
    """

    def __init__(
        self, read: Callable[[], Value], write: Callable[[Value], object], wanted: Value
    ) -> None:
        self._read = read
        self._write = write
        self._wanted = wanted
        self._lock = threading.Lock()
        self._inside = 0
        self._before = wanted

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = self._read()
                self.set()
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._change_to(self._before)

    def set(self) -> None:
        """Set it to ``wanted`` for good, as a process that lives for one purpose may do."""
        self._change_to(self._wanted)

    def _change_to(self, value: Value) -> None:
        if self._read() != value:
            self._write(value)
