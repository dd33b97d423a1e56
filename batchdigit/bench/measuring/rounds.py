"""Measuring settings in turns, so that what disturbs the machine for a while disturbs them all."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchdigit.auto import seconds_to_read
from batchdigit.bench.analysis.advice import leading_points
from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Check, Point, Sample, Setting, Start
from batchdigit.bench.measuring.engine import (
    Engine,
    EngineDiedError,
    run_command,
    run_job,
    seconds_of_command,
)
from batchdigit.bench.measuring.images import evenly, links_to
from batchdigit.bench.measuring.parity import parity_of
from batchdigit.bench.measuring.probes import (
    Outcomes,
    network_rate,
    reading_rate,
    timed_run,
    warm_up,
)
from batchdigit.errors import BatchdigitError, SourceError
from batchdigit.sources.folder import FolderSource
from batchdigit.system.progress import OnProgress

# Shares of the time by whose end something is over.
SAMPLES_UNTIL, ALONE_UNTIL = 0.78, 0.9
SHARE_FOR_STARTS = 0.15
SHORTEST, LONGEST = 0.25, 1.0  # seconds of a sample
BATCHES_OF_A_SAMPLE, MOST_TIMES_LONGER = 4, 8  # than other samples
OVERHEAD = 0.15  # seconds of a sample beside its images
FULL_ROUNDS = 2  # of all settings; those after them are of contenders
# Four, of which the last two are of 0.6 of the settings; of a few settings, as many as it takes to
# compare two measurements of one.
ROUNDS_HOPED_FOR, MOST_ROUNDS_HOPED_FOR, SAMPLES_OF_A_FEW = 3.2, 8, 16
# Settings whose best sample is below that share of the engine's best rate drop out.
CONTENDER = 0.8
SECONDS_ALONE = 0.3
MOST_ALONE = 5
IMAGES_ALONE, BATCHES_ALONE = 20_000, 8  # that are there to be read, batches for each process
IMAGES_TO_COMPARE, SHARE_TO_COMPARE = 1000, 0.05
FEWEST = 4  # images, however long they take
IMAGES_TO_START_WITH = 512
IMAGES_OF_A_START = 10
IMAGES_TO_CHECK = 10_000
SECONDS_TO_CHECK, MOST_CHECKS = 3.0, 3
MOST_IMAGES = 200_000  # of a sample

Say = Callable[[str], None]


class Clock:
    """How much of the time there is has gone by."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._start

    def left(self, share: float) -> float:
        """Seconds until that share of the time is over."""
        return share * self.budget - self.seconds


@dataclass
class Found:
    """What has been found out of a setting so far."""

    samples: list[Sample] = field(default_factory=list)
    network_rates: list[float] = field(default_factory=list)
    reading_rates: list[float] = field(default_factory=list)
    problem: str | None = None
    failed: bool = False  # and is not tried again
    warm_up: Sample | None = None  # with hardly any images
    seconds: float = 0.0  # of its last sample, with everything around it

    def fail(self, problem: str) -> None:
        """It does not work any more; what it has shown before still counts."""
        self.failed = True
        if not self.samples:
            self.problem = problem

    @property
    def rate(self) -> float:
        """The median of its samples, 0 where there are none."""
        return statistics.median(sample.rate for sample in self.samples) if self.samples else 0.0

    @property
    def highest(self) -> float:
        """The rate of its best sample."""
        return max((sample.rate for sample in self.samples), default=0.0)


class Bench:
    """A benchmark under way; its methods are called in their order here."""

    def __init__(
        self,
        job: BenchJob,
        files: FolderSource,
        listing: float,
        settings: Sequence[Setting],
        on_progress: OnProgress,
        say: Say,
    ) -> None:
        self.clock = Clock(job.seconds)
        self.outcomes: dict[str, Outcomes] = {}
        self._job = job
        self._files = files
        self._listing = listing  # seconds for each of the files
        self._seconds_to_read = seconds_to_read(run_job(job, settings[0]), files)
        self._found = {setting: Found() for setting in settings}
        self._firsts: dict[str, Setting] = {}
        for setting in settings:
            self._firsts.setdefault(setting.engine, setting)
        self._on_progress = on_progress
        self._say = say
        self._engines: dict[str, Engine] = {}
        self._images: dict[str, FolderSource] = {}
        self._starts: dict[str, list[float]] = {}
        self._seconds_of_starts = 0.0
        self._without_start: set[str] = set()
        self._folder = Path()

    @contextlib.contextmanager
    def engines(self) -> Iterator[None]:
        """The processes that measure, while the block runs."""
        with contextlib.ExitStack() as stack:
            # Here, and not where they are used, from where a process that is killed takes none.
            folder = tempfile.TemporaryDirectory(prefix="batchdigit-bench-")
            self._folder = Path(stack.enter_context(folder))
            for name, setting in self._firsts.items():
                self._engines[name] = stack.enter_context(Engine(self._job, setting))
            yield

    def compare_outcomes(self) -> None:
        """Let each engine predict the same images, which warms it up as well.

        Raises what an engine raises where none of them works.
        """
        files = self._some(IMAGES_TO_COMPARE, SHARE_TO_COMPARE * self.clock.budget)
        failure: BatchdigitError | None = None
        for name, setting in self._firsts.items():
            try:
                self.outcomes[name] = self._engines[name].ask(warm_up, setting, files)
            except BatchdigitError as error:
                failure = failure or error
                self._give_up(name, error)
            self._show()
        if failure and not self.outcomes:
            raise failure
        if all(outcomes.failed == len(files) for outcomes in self.outcomes.values()):
            raise SourceError(
                f"all {len(files)} images that were tried are error rows",
                "see what `batchdigit run` says of them",
            )

    def sample_in_rounds(self) -> None:
        """Sample every setting once, and the fast ones again and again while there is time."""
        for name, setting in list(self._firsts.items()):
            if name in self.outcomes:
                try:
                    self._images[name] = self._images_for(setting)
                except BatchdigitError as error:
                    self._give_up(name, error)
        for number in itertools.count():
            self._time_starts()
            settings = self._alive() if number < FULL_ROUNDS else self._contenders()
            # In turns, and each round begins with another one: what disturbs the machine for a
            # while disturbs all of them.
            for setting in _rotated(settings, number):
                if setting not in self._alive():
                    continue  # its engine has died
                if number and self._found[setting].seconds > self.clock.left(SAMPLES_UNTIL):
                    return
                # Each engine gets one sample at least, however late it is.
                late = self.clock.left(SAMPLES_UNTIL) < 0 and self._best_rate(setting.engine) > 0
                if not number and late:
                    self._found[setting].fail("there was no time; give more --seconds")
                    continue
                self._sample(setting)
            if not settings or self.clock.left(SAMPLES_UNTIL) < 0:
                return

    def measure_alone(self) -> None:
        """What the network and what the readers of each engine's best setting do alone."""
        leaders = [point.setting for point in leading_points(self.points())]
        for number in range(MOST_ALONE):
            for setting in leaders:
                if number and self.clock.left(ALONE_UNTIL) < 0:
                    return
                engine, found = self._engines[setting.engine], self._found[setting]
                size = found.samples[0].batch_size
                workers = max(found.samples[0].workers, 1)
                count = min(max(IMAGES_ALONE, BATCHES_ALONE * workers * size), MOST_IMAGES)
                few = self._some(IMAGES_TO_START_WITH, SECONDS_ALONE)
                try:
                    network = engine.ask(network_rate, setting, few, SECONDS_ALONE)
                    many = evenly(self._files, count)
                    reading = engine.ask(reading_rate, setting, many, SECONDS_ALONE)
                except BatchdigitError as error:
                    self._say(f"{setting.label}, alone: {error}")
                    leaders = [other for other in leaders if other != setting]
                    continue
                found.network_rates.append(network)
                if reading is not None:
                    found.reading_rates.append(reading)
                self._show()

    def check(self, point: Point) -> Check | None:
        """Run the very command that is advised, as often as there is time, at least once."""
        count = int(min(IMAGES_TO_CHECK, max(point.rate * SECONDS_TO_CHECK, IMAGES_OF_A_START)))
        seconds: list[float] = []
        command = run_command(self._job, point.setting)
        with links_to(evenly(self._files, count)) as folder:
            while not seconds or (len(seconds) < MOST_CHECKS and self.clock.left(1) > seconds[-1]):
                try:
                    seconds.append(seconds_of_command(self._job, point.setting, folder))
                except BatchdigitError as error:
                    self._say(f"{command}: {error}")
                    break
                self._show()
        return Check(command, count, tuple(seconds)) if seconds else None

    def points(self) -> tuple[Point, ...]:
        """All that was found out."""
        return tuple(
            Point(
                setting,
                tuple(found.samples),
                tuple(found.network_rates),
                tuple(found.reading_rates),
                parity_of(setting.engine, self._firsts, self.outcomes),
                found.problem,
            )
            for setting, found in self._found.items()
        )

    def starts_found(self) -> Iterator[Start]:
        """What a command of each engine takes with hardly any images."""
        return (Start(name, tuple(seconds)) for name, seconds in self._starts.items() if seconds)

    def versions(self) -> dict[str, str]:
        """Of all engines' packages."""
        return {
            name: version
            for outcomes in self.outcomes.values()
            for name, version in outcomes.versions.items()
        }

    def _some(self, most: int, seconds: float) -> FolderSource:
        """At most so many of the files, and no more than can be read in about that time."""
        count = min(len(self._files), most, int(seconds / self._seconds_to_read))
        return evenly(self._files, max(count, min(FEWEST, len(self._files))))

    def _images_for(self, setting: Setting) -> FolderSource:
        """The images of each sample of the engine of ``setting``.

        They are four batches of any of its settings, unless that takes too long.
        """
        settings = len(self._found)
        rounds = max(SAMPLES_OF_A_FEW / settings, ROUNDS_HOPED_FOR)
        count = settings * min(rounds, MOST_ROUNDS_HOPED_FOR)
        seconds = self.clock.left(SAMPLES_UNTIL - SHARE_FOR_STARTS) / count - OVERHEAD
        target = min(max(seconds, SHORTEST), LONGEST)
        images = len(self._some(IMAGES_TO_START_WITH, SHORTEST))
        for _ in range(4):
            sample = self._run(setting, evenly(self._files, images))
            if sample.span > 0.7 * target:
                break
            images = min(int(images * min(target / sample.span, 16)), MOST_IMAGES)
        needed = [
            BATCHES_OF_A_SAMPLE * (other.batch_size or 0)
            for other in self._found
            if other.engine == setting.engine
        ]
        most = images * MOST_TIMES_LONGER
        return evenly(self._files, max([images, *(count for count in needed if count <= most)]))

    def _run(self, setting: Setting, images: FolderSource) -> Sample:
        return self._engines[setting.engine].ask(
            timed_run, setting, images, self._folder, self._listing
        )

    def _sample(self, setting: Setting) -> None:
        found, images = self._found[setting], self._images[setting.engine]
        start = self.clock.seconds
        if BATCHES_OF_A_SAMPLE * (setting.batch_size or 0) > len(images):
            found.fail("four such batches take too long; try smaller ones")
            return
        try:
            if found.warm_up is None:
                few = evenly(images, max(min(IMAGES_OF_A_START, len(images) // 2), 1))
                if setting.device != "cpu":
                    # It finds memory for batches of a size, and what suits them, at the first one.
                    size = setting.batch_size or IMAGES_TO_START_WITH
                    self._run(setting, evenly(images, min(size, len(images))))
                found.warm_up = self._run(setting, few)
            found.samples.append(self._run(setting, images).without_start(found.warm_up))
        except EngineDiedError as error:
            self._give_up(setting.engine, error)
        except BatchdigitError as error:
            found.fail(str(error))
            self._say(f"{setting.label}: {error}")
        found.seconds = self.clock.seconds - start
        self._show()

    def _time_starts(self) -> None:
        """What whole commands with hardly any images take, while their share of time lasts."""
        few = evenly(self._files, IMAGES_OF_A_START)
        with links_to(few) as folder:
            for name in [name for name in self._images if name not in self._without_start]:
                times = self._starts.setdefault(name, [])
                if times and self._seconds_of_starts > SHARE_FOR_STARTS * self.clock.budget:
                    return
                try:
                    times.append(seconds_of_command(self._job, self._firsts[name], folder))
                    self._seconds_of_starts += times[-1]
                except BatchdigitError as error:
                    self._without_start.add(name)
                    self._say(f"the start of {name}: {error}")
                self._show()

    def _alive(self) -> list[Setting]:
        return [
            setting
            for setting, found in self._found.items()
            if setting.engine in self._images and not found.failed
        ]

    def _contenders(self) -> list[Setting]:
        """Settings that may turn out best of their engine."""
        return [
            setting
            for setting in self._alive()
            if self._found[setting].highest >= CONTENDER * self._best_rate(setting.engine)
        ]

    def _best_rate(self, name: str) -> float:
        return max(found.rate for setting, found in self._found.items() if setting.engine == name)

    def _give_up(self, name: str, error: BatchdigitError) -> None:
        self._say(f"{name}: {error}")
        self._images.pop(name, None)
        for setting, found in self._found.items():
            if setting.engine == name:
                found.fail(str(error))

    def _show(self) -> None:
        seconds = min(self.clock.seconds, self.clock.budget)
        self._on_progress(round(seconds), 0, round(self.clock.budget))


def _rotated(settings: Sequence[Setting], number: int) -> list[Setting]:
    """The settings by turns of their engines, from another one on each time."""
    by_engine: dict[str, list[Setting]] = {}
    for setting in settings:
        by_engine.setdefault(setting.engine, []).append(setting)
    turns = [one for turn in itertools.zip_longest(*by_engine.values()) for one in turn if one]
    first = number % len(turns) if turns else 0
    return turns[first:] + turns[:first]
