"""What is measured by itself: results to compare, starts, network and readers, the advised command.

Apart from these there are only the samples of whole runs, which are taken in rounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from batchdigit.bench.analysis.advice import leading_points
from batchdigit.bench.measurement import Check, Point, Start
from batchdigit.bench.measuring.clock import Clock, Say
from batchdigit.bench.measuring.engine import Engine, run_command, seconds_of_command
from batchdigit.bench.measuring.found import (
    IMAGES_TO_START_WITH,
    MAX_IMAGES,
    SHARE_FOR_STARTS,
    Found,
)
from batchdigit.bench.measuring.images import evenly, links_to
from batchdigit.bench.measuring.probes import Outcomes, network_rate, reading_rate, warm_up
from batchdigit.errors import BatchdigitError, SourceError

IMAGES_TO_COMPARE, SHARE_TO_COMPARE = 1000, 0.05
IMAGES_OF_A_START = 10
ALONE_UNTIL = 0.9  # of the time
SECONDS_ALONE = 0.3
MAX_TIMES_ALONE = 5
IMAGES_ALONE, BATCHES_ALONE = 20_000, 8  # that are there to be read; batches for each process
IMAGES_TO_CHECK, SECONDS_TO_CHECK, MAX_CHECKS = 10_000, 3.0, 3


def compare_outcomes(
    found: Found, engines: Mapping[str, Engine], clock: Clock, say: Say
) -> tuple[dict[str, Outcomes], dict[str, str]]:
    """What each engine predicts for the same images; and the problems of those that fail.

    It warms the engines up as well. Raises the first engine's error if none of them works, and
    SourceError if every image is an error row.
    """
    files = found.some(IMAGES_TO_COMPARE, SHARE_TO_COMPARE * clock.budget)
    outcomes: dict[str, Outcomes] = {}
    errors: dict[str, BatchdigitError] = {}
    for name, setting in found.engines.items():
        try:
            outcomes[name] = engines[name].ask(warm_up, setting, files)
        except BatchdigitError as error:
            say(f"{name}: {error}")
            errors[name] = error
        clock.show()
    if not outcomes:
        raise next(iter(errors.values()))
    if all(one.failed == len(files) for one in outcomes.values()):
        raise SourceError(
            "every image that was tried is an error row",
            "see what `batchdigit run` says of them",
        )
    return outcomes, {name: str(error) for name, error in errors.items()}


@dataclass(frozen=True)
class Starts:
    """The seconds of whole commands over hardly any images, by engine; and which engines failed."""

    seconds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()

    def found(self) -> tuple[Start, ...]:
        """The same as parts of a measurement."""
        return tuple(Start(name, seconds) for name, seconds in self.seconds.items())


def time_starts(
    found: Found, names: Iterable[str], starts: Starts, clock: Clock, say: Say
) -> Starts:
    """``starts`` with one more for each of the named engines, while their share of time lasts."""
    with links_to(evenly(found.files, IMAGES_OF_A_START)) as folder:
        for name in names:
            if name in starts.failed:
                continue
            before = starts.seconds.get(name, ())
            used = sum(map(sum, starts.seconds.values()))
            if before and used > SHARE_FOR_STARTS * clock.budget:
                return starts
            try:
                seconds = seconds_of_command(found.job, found.engines[name], folder)
                starts = replace(starts, seconds={**starts.seconds, name: (*before, seconds)})
            except BatchdigitError as error:
                say(f"the start of {name}: {error}")
                starts = replace(starts, failed=starts.failed | {name})
            clock.show()
    return starts


def measure_alone(
    found: Found, engines: Mapping[str, Engine], points: Sequence[Point], clock: Clock, say: Say
) -> tuple[Point, ...]:
    """``points``; the best of each engine gets the rates of its network and readers alone."""
    leaders = {point.setting: point for point in leading_points(points)}
    failed = set()
    for number, setting in itertools.product(range(MAX_TIMES_ALONE), leaders):
        if setting in failed:
            continue
        if number and clock.left(ALONE_UNTIL) < 0:
            break
        try:
            leaders[setting] = _with_rates_alone(leaders[setting], found, engines[setting.engine])
        except BatchdigitError as error:
            say(f"{setting.label}, alone: {error}")
            failed.add(setting)
            continue
        clock.show()
    return tuple(leaders.get(point.setting, point) for point in points)


def _with_rates_alone(point: Point, found: Found, engine: Engine) -> Point:
    size, workers = point.samples[0].batch_size, max(point.samples[0].workers, 1)
    few = found.some(IMAGES_TO_START_WITH, SECONDS_ALONE)
    network = engine.ask(network_rate, point.setting, few, SECONDS_ALONE)
    count = min(max(IMAGES_ALONE, BATCHES_ALONE * workers * size), MAX_IMAGES)
    many = evenly(found.files, count)
    reading = engine.ask(reading_rate, point.setting, many, SECONDS_ALONE)
    return replace(
        point,
        network_rates=(*point.network_rates, network),
        reading_rates=point.reading_rates if reading is None else (*point.reading_rates, reading),
    )


def check_command(found: Found, point: Point, clock: Clock, say: Say) -> Check | None:
    """Run the command that is advised, at least once and as often as there is time.

    None where it fails the first time.
    """
    count = int(min(IMAGES_TO_CHECK, max(point.rate * SECONDS_TO_CHECK, IMAGES_OF_A_START)))
    command = run_command(found.job, point.setting)
    seconds: list[float] = []
    with links_to(evenly(found.files, count)) as folder:
        while not seconds or (len(seconds) < MAX_CHECKS and clock.left(1) > seconds[-1]):
            try:
                seconds.append(seconds_of_command(found.job, point.setting, folder))
            except BatchdigitError as error:
                say(f"{command}: {error}")
                break
            clock.show()
    return Check(command, count, tuple(seconds)) if seconds else None
