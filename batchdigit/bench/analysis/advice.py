"""Which setting is best, and from how many images on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchdigit.bench.measurement import Point, Start

AS_FAST = 0.97  # of the fastest rate: a simpler setting that reaches it is the better one
MOST_FLIPS = 0.001  # share of labels that may differ


@dataclass(frozen=True)
class Best:
    """The point that is done first with the images that there are, and the fastest one."""

    here: Point
    fastest: Point


def leading_points(points: Iterable[Point]) -> list[Point]:
    """The best point of each engine whose results have been compared, the fastest engine first.

    Of points that are as fast, within 3%, it is the one with fewer options. One that reads in the
    main process, which a file that never answers would stop, is only taken where there is no other.
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

    One counts if its labels are those of the reference, save one in a thousand. Of engines that are
    as fast, within 3%, one of full precision is taken before one of less.
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
    """A whole command: the seconds that it takes to start, and its images a second after that."""

    start: float
    rate: float

    def seconds(self, images: float) -> float:
        """How long it takes for so many images."""
        return self.start + images / self.rate


def done_first(command: Command, others: Iterable[Command]) -> tuple[float, float] | None:
    """From and to how many images ``command`` is done before all others; None for never."""
    low, high = 0.0, math.inf
    for other in others:
        delay = command.start - other.start
        gain = 1 / other.rate - 1 / command.rate  # seconds an image
        if delay > 0 and gain <= 0:
            return None
        if delay > 0:
            low = max(low, delay / gain)
        elif gain < 0:
            high = min(high, delay / gain)
    return (low, high) if low < high else None


def _same_labels(point: Point) -> bool:
    parity = point.parity
    return parity is not None and parity.flips <= MOST_FLIPS * parity.images


def _simplest_of_the_fastest(points: Sequence[Point]) -> Point:
    most = max(point.rate for point in points)
    fast = [point for point in points if point.rate >= AS_FAST * most]
    return min(fast, key=lambda point: (_complexity(point), -point.rate))


def _complexity(point: Point) -> tuple[bool, int]:
    setting = point.setting
    given = (setting.batch_size is not None) + (setting.workers is not None)
    return setting.precision != "fp32", given
