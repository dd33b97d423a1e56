"""An engine and a clock with which the rounds of a benchmark take no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Sample, Setting
from batchdigit.bench.measuring.clock import Clock
from batchdigit.bench.measuring.engine import EngineDiedError
from batchdigit.bench.measuring.found import Found
from batchdigit.bench.measuring.probes import Outcomes, network_rate, reading_rate, warm_up
from batchdigit.errors import BatchdigitError
from batchdigit.sources.folder import FolderSource
from tests.support.measurements import sample
from tests.support.samples import files_in

BROKEN = BatchdigitError("no memory left", "free some")
DEAD = EngineDiedError("the process has died", "see that memory suffices")


class HandClock(Clock):
    """A clock that only moves when somebody adds to ``now``."""

    def __init__(self, budget: float = 60.0) -> None:
        self.shown: list[int] = []
        super().__init__(budget, lambda seconds, _failed, _budget: self.shown.append(seconds))
        self.now = 0.0

    @property
    def seconds(self) -> float:
        return self.now


class FakeEngine:
    """An engine with a rate for each setting, which moves the clock as it samples.

    ``errors`` maps what fails, a setting or a probe, to what it raises.
    """

    def __init__(self, clock: HandClock, rate: Callable[[Setting], float]) -> None:
        self.clock = clock
        self.rate = rate
        self.errors: dict[object, BatchdigitError] = {}
        self.sampled: list[tuple[Setting, int]] = []
        self.asked: list[object] = []
        self.labels = [1, 2, 3]

    def sample(self, setting: Setting, images: FolderSource, listing_seconds: float) -> Sample:
        self.sampled.append((setting, len(images)))
        if setting in self.errors:
            raise self.errors[setting]
        self.clock.now += len(images) * (1 / self.rate(setting) + listing_seconds)
        chosen = {
            "batch_size": setting.batch_size or 256,
            "workers": 1 if setting.workers is None else setting.workers,
        }
        return sample(self.rate(setting), images=len(images), **chosen)

    def ask(self, probe: object, setting: Setting, files: FolderSource, *_others: object) -> object:
        self.asked.append(probe)
        if probe in self.errors:
            raise self.errors[probe]
        if probe is warm_up:
            labels = np.resize(self.labels, len(files))
            probs = np.full(len(files), 0.5, np.float32)
            return Outcomes(labels, probs, "cpu", {"numpy": "2"}, {"sha256": "ab"})
        self.clock.now += 0.3
        return {network_rate: 1000.0, reading_rate: 2000.0}[probe]  # type: ignore[index]


def found_with(*settings: Setting, files: int = 1000, reading_seconds: float = 1e-4) -> Found:
    """Some files, and the settings to try on them."""
    names = [f"{number:06}.png".encode() for number in range(files)]
    return Found(BenchJob(), settings, files_in(Path("images"), names), 0.0, reading_seconds)
