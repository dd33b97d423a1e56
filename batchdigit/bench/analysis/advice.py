"""Which setting is best, and from how many images on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchdigit.bench.measurement import Point, Start

AS_FAST = 0.97  # of the fastest rate: a simpler setting that reaches it is better
MAX_FLIPS = 0.001  # share of labels that may differ


@dataclass(frozen=True)
class Best:
    """The point that finishes first with the images at hand, and the fastest point."""

    here: Point
    fastest: Point


def leading_points(points: Iterable[Point]) -> list[Point]:
    """The best point of each engine whose results have been compared, the fastest engine first.

    Among points that are within 3% of the fastest, it is the one with the fewest options. A file
    that never answers would stop a run that reads in the main process, so such a point is taken
    only where there is no other.
    """
    engines: dict[str, list[Point]] = {}
    for point in points:
        if point.is_shown:
            engines.setdefault(point.setting.engine, []).append(point)
    leaders = [
        _simplest_of_the_fastest([point for point in own if point.samples[0].workers] or own)
        for own in engines.values()
    ]
    return sorted(leaders, key=lambda point: -point.rate)


def best_points(points: Iterable[Point], starts: Sequence[Start], images: int) -> Best | None:
    """The points to advise for a folder of ``images``, None where there are none.

    A point counts if no more than one in a thousand of its labels differs from the reference. For
    the fastest engine, full precision is preferred to less if it is within 3%.
    """
    fit = [point for point in leading_points(points) if _same_labels(point)]
    if not fit:
        return None
    fastest = _simplest_of_the_fastest(fit)
    commands = {start.engine: start.median for start in starts if start.seconds}
    known = [point for point in fit if point.setting.engine in commands]
    here = min(
        known,
        key=lambda point: Command(commands[point.setting.engine], point.rate).seconds(images),
        default=fastest,
    )
    return Best(here, fastest)


@dataclass(frozen=True)
class Command:
    """A whole command: the seconds that it takes to start, and then its images per second."""

    start: float
    rate: float

    def seconds(self, images: float) -> float:
        """How long it takes for that many images."""
        return self.start + images / self.rate


def done_first(command: Command, others: Iterable[Command]) -> tuple[float, float] | None:
    """The range of image counts for which ``command`` finishes first; None if it never does."""
    low, high = 0.0, math.inf
    for other in others:
        delay = command.start - other.start
        gain = 1 / other.rate - 1 / command.rate  # seconds per image
        if delay > 0 and gain <= 0:
            return None
        if delay > 0:
            low = max(low, delay / gain)
        elif gain < 0:
            high = min(high, delay / gain)
    return (low, high) if low < high else None


def _same_labels(point: Point) -> bool:
    parity = point.parity
    return parity is not None and parity.flips <= MAX_FLIPS * parity.images


def _simplest_of_the_fastest(points: Sequence[Point]) -> Point:
    fastest = max(point.rate for point in points)
    fast = [point for point in points if point.rate >= AS_FAST * fastest]
    return min(fast, key=lambda point: (_complexity(point), -point.rate))


def _complexity(point: Point) -> tuple[bool, int]:
    setting = point.setting
    given = (setting.batch_size is not None) + (setting.workers is not None)
    return setting.precision != "fp32", given
