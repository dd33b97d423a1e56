"""What there is to measure: settings and images, and how many images a sample needs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchdigit.auto import seconds_to_read
from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Setting
from batchdigit.bench.measuring.clock import Clock, Say
from batchdigit.bench.measuring.engine import Engine, run_job
from batchdigit.bench.measuring.images import evenly
from batchdigit.errors import BatchdigitError
from batchdigit.sources.find import check_images
from batchdigit.sources.folder import FolderSource, open_folders

# Samples are over after this share of the time, and starts take this share of it.
SAMPLES_UNTIL, SHARE_FOR_STARTS = 0.78, 0.15
MIN_SECONDS, MAX_SECONDS = 0.25, 1.0  # of a sample
OVERHEAD = 0.15  # seconds of a sample apart from its images
BATCHES_OF_A_SAMPLE = 4
MAX_STRETCH = 8  # times as many images as the time allows, for the sake of whole batches
# Four rounds, the last two with 0.6 of the settings; if there are few settings, as many rounds as
# it takes to compare two measurements of one setting.
EXPECTED_ROUNDS, MAX_EXPECTED_ROUNDS, SAMPLES_OF_FEW_SETTINGS = 3.2, 8, 16
MIN_IMAGES = 4  # however long they take
MAX_IMAGES = 200_000  # of a sample
IMAGES_TO_START_WITH = 512
_TRIALS = 4  # until the length of a sample is about right
_LONG_ENOUGH = 0.7  # of the length that is wanted
_MAX_GROWTH = 16  # from one trial to the next


@dataclass(frozen=True)
class Found:
    """What ``job`` asks for: the settings to try and the images to try them on.

    ``listing_seconds`` and ``reading_seconds`` are for each file; the latter is a guess.
    """

    job: BenchJob
    settings: tuple[Setting, ...]
    files: FolderSource
    listing_seconds: float
    reading_seconds: float

    @property
    def engines(self) -> dict[str, Setting]:
        """The first setting of each engine, by the engine's name."""
        firsts: dict[str, Setting] = {}
        for setting in self.settings:
            firsts.setdefault(setting.engine, setting)
        return firsts

    def some(self, max_count: int, seconds: float) -> FolderSource:
        """At most ``max_count`` of the files, and no more than can be read in about ``seconds``."""
        count = min(len(self.files), max_count, int(seconds / self.reading_seconds))
        return evenly(self.files, max(count, min(MIN_IMAGES, len(self.files))))


def find(job: BenchJob, settings: Sequence[Setting], source: tuple[Path, ...]) -> Found:
    """List the images in ``source``. Raises SourceError where there are none."""
    run = run_job(job, settings[0])
    start = time.perf_counter()
    files = open_folders(source)
    check_images(files, source)
    listing = (time.perf_counter() - start) / len(files)
    return Found(job, tuple(dict.fromkeys(settings)), files, listing, seconds_to_read(run, files))


def images_of_samples(
    found: Found, engines: Mapping[str, Engine], names: Iterable[str], clock: Clock, say: Say
) -> tuple[dict[str, FolderSource], dict[str, str]]:
    """The images of each sample of the named engines; and the problems of those that fail."""
    images, problems = {}, {}
    for name in names:
        try:
            images[name] = _images_of_a_sample(found, engines[name], name, clock)
        except BatchdigitError as error:
            say(f"{name}: {error}")
            problems[name] = str(error)
    return images, problems


def _images_of_a_sample(found: Found, engine: Engine, name: str, clock: Clock) -> FolderSource:
    """As many images as take about as long as a sample should.

    They are four batches of any setting of the engine, unless those take far too long.
    """
    wanted = _seconds_of_a_sample(len(found.settings), clock)
    count = len(found.some(IMAGES_TO_START_WITH, MIN_SECONDS))
    for _ in range(_TRIALS):
        images = evenly(found.files, count)
        sample = engine.sample(found.engines[name], images, found.listing_seconds)
        if sample.span > _LONG_ENOUGH * wanted:
            break
        count = min(int(count * min(wanted / sample.span, _MAX_GROWTH)), MAX_IMAGES)
    for_batches = [
        BATCHES_OF_A_SAMPLE * (setting.batch_size or 0)
        for setting in found.settings
        if setting.engine == name
    ]
    affordable = [other for other in for_batches if other <= count * MAX_STRETCH]
    return evenly(found.files, max([count, *affordable]))


def _seconds_of_a_sample(settings: int, clock: Clock) -> float:
    """How long a sample may take so that every setting gets the rounds that are expected."""
    rounds = max(SAMPLES_OF_FEW_SETTINGS / settings, EXPECTED_ROUNDS)
    samples = settings * min(rounds, MAX_EXPECTED_ROUNDS)
    seconds = clock.left(SAMPLES_UNTIL - SHARE_FOR_STARTS) / samples - OVERHEAD
    return min(max(seconds, MIN_SECONDS), MAX_SECONDS)
