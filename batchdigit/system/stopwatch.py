"""Where the time of a run went, in the main thread and in what works beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

Item = TypeVar("Item")


class Stopwatch:
    """Wall-clock seconds by stage, and the work that other threads and processes do meanwhile.

    Stages nest, and a second counts for the innermost stage only, so the stages add up to no more
    than the total. ``busy`` holds the seconds that others have worked, by stage; they may well add
    up to more than the total.
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
        """Count the time in the block for the stage ``name``, or for none."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    @contextlib.contextmanager
    def around(self, name: str, manager: AbstractContextManager[Item]) -> Iterator[Item]:
        """As ``manager``, but the time that entering and leaving it takes counts for ``name``."""
        with self.stage(name), manager as item, self.stage(None):
            yield item

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yields ``items``; the time that each takes to arrive counts for ``name``."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def shift(self, name: str, other: str, seconds: float) -> None:
        """Count ``seconds`` for the stage ``other`` that were counted for the stage ``name``."""
        self._seconds[name] = self._seconds.get(name, 0.0) - seconds
        self._seconds[other] = self._seconds.get(other, 0.0) + seconds

    def seconds(self) -> dict[str, float]:
        """The seconds of each stage so far; ``total`` is the time since this object was created."""
        self._charge()
        return {**self._seconds, "total": time.perf_counter() - self._start}

    def _charge(self) -> None:
        now = time.perf_counter()
        name = self._running[-1] if self._running else None
        if name is not None:
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._mark
        self._mark = now


class Laps:
    """Wall-clock ``seconds`` by stage, for work that goes from one stage to the next.

    Cheap enough to be used for every file: a lap costs a tenth of a microsecond.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._mark = 0.0

    def enter(self, stage: str | None) -> None:
        """End the current stage and begin another one, or none."""
        now = time.perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._mark
        self._stage = stage
        self._mark = now


def add_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of all parts, stage by stage."""
    total: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total
