"""Where the time of a run went."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Stopwatch:
    """Wall-clock seconds by stage.

    Stages nest, and a second counts for the innermost stage alone, so that the stages add up to
    no more than the total.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._mark = self._start
        self._running: list[str] = []
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time in the block for ``name``."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """``items``, with the time that each took to arrive counted for ``name``."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage so far, and ``total`` since this object was made."""
        self._charge()
        return {**self._seconds, "total": time.perf_counter() - self._start}

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._running:
            name = self._running[-1]
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._mark
        self._mark = now
