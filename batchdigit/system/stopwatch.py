"""Where the time of a run went, in the main thread and in those who work beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

Item = TypeVar("Item")


class Stopwatch:
    """Wall-clock seconds by stage, and the work that others do meanwhile.

    Stages nest, and a second counts for the innermost stage alone, so that the stages add up to
    no more than the total. ``busy`` are the seconds of work of others, by stage, which may well
    add up to more.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._mark = self._start
        self._running: list[str | None] = []
        self._seconds: dict[str, float] = {}
        self.busy: dict[str, float] = {}

    def add_work(self, busy: Mapping[str, float]) -> None:
        """Count seconds that others have worked."""
        self.busy = add_up([self.busy, busy])

    @contextlib.contextmanager
    def stage(self, name: str | None) -> Iterator[None]:
        """Count the time in the block for ``name``, or for nothing."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    @contextlib.contextmanager
    def around(self, name: str, manager: AbstractContextManager[Item]) -> Iterator[Item]:
        """``manager``, with the time to enter and to leave it counted for ``name``."""
        with self.stage(name), manager as item, self.stage(None):
            yield item

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

    def shift(self, name: str, other: str, seconds: float) -> None:
        """Count ``seconds`` that were counted for the stage ``name`` for another one."""
        self._seconds[name] = self._seconds.get(name, 0.0) - seconds
        self._seconds[other] = self._seconds.get(other, 0.0) + seconds

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage so far, and ``total`` since this object was made."""
        self._charge()
        return {**self._seconds, "total": time.perf_counter() - self._start}

    def _charge(self) -> None:
        now = time.perf_counter()
        name = self._running[-1] if self._running else None
        if name is not None:
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._mark
        self._mark = now


class Laps:
    """Wall-clock ``seconds`` by stage of work that goes from one stage to the next.

    Cheap enough for every file: a lap takes a tenth of a microsecond.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._mark = 0.0

    def enter(self, stage: str | None) -> None:
        """End the stage that runs, and begin another one; None is none."""
        now = time.perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._mark
        self._stage = stage
        self._mark = now


def add_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The seconds of all parts, stage by stage."""
    total: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total
