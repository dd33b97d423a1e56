"""What a benchmark measured: settings, samples, points. All of it is JSON data as well.

Times are wall-clock seconds, rates images per second, memory bytes and energy joules, unless a
docstring says otherwise. The annotations are what :mod:`batchdigit.bench.store` holds a file to.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from msgspec import Meta

FORMAT = 1  # of the JSON data; another number is another format
START = ("import", "load", "start", "end")
"""Stages that take as long however many images there are, so they are no part of a rate."""
LOOP = ("list", "read", "save", "predict", "journal", "write")
"""The other stages of the main thread."""
READING = ("read", "decode", "fit")
WORK = (*READING, "transfer", "network")
"""Stages in which worker processes, threads and devices spend time beside the main thread."""

MAX_NUMBER = 1 << 63  # no count, time or rate reaches it
MIN_RATE, MAX_RATE = 1e-9, 1e15  # images per second; two such rates have a ratio
Count = Annotated[int, Meta(ge=0, le=MAX_NUMBER - 1)]
Number = Annotated[float, Meta(ge=0, lt=MAX_NUMBER)]
Times = Annotated[tuple[Number, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class Setting:
    """A way to run: values of the options of ``batchdigit run``. None is ``auto``."""

    backend: str
    device: str
    precision: str
    batch_size: Count | None = None
    workers: Count | None = None

    @property
    def engine(self) -> str:
        """What computes: backend, device and precision, such as ``torch on cuda in fp16``."""
        return f"{self.backend} on {self.device} in {self.precision}"

    @property
    def label(self) -> str:
        """The whole setting in words."""
        return f"{self.engine}, batch {_or_auto(self.batch_size)}, workers {_or_auto(self.workers)}"

    @property
    def options(self) -> list[str]:
        """Options for ``batchdigit run``, without those that are ``auto``."""
        given = {
            "--backend": self.backend,
            "--device": self.device,
            "--precision": self.precision,
            "--batch-size": self.batch_size,
            "--workers": self.workers,
        }
        return [
            text
            for name, value in given.items()
            if value is not None
            for text in (name, str(value))
        ]


def _or_auto(value: int | None) -> str:
    return "auto" if value is None else str(value)


@dataclass(frozen=True)
class Sample:
    """One run of a setting over ``images`` files, after another run that warmed it up.

    ``seconds`` holds the stages of the main thread, which add up to its ``total`` (see
    :class:`batchdigit.RunSummary`). ``busy`` holds the seconds of work in each stage of ``WORK``,
    summed over all processes and threads that did it. ``batch_size``, ``workers`` and ``threads``
    are what the run chose. ``cpu_seconds`` is the processor time of all processes, ``joules`` the
    energy that the machine used, ``peak_memory`` the largest resident set of the main process.
    What could not be measured is None. Raises ValueError for a run that took no time.
    """

    images: Count
    seconds: Mapping[str, Number]
    busy: Mapping[str, Number]
    cpu_seconds: Number | None
    batch_size: Count
    workers: Count
    threads: Count
    peak_memory: Count | None
    peak_device_memory: Count | None
    joules: Number | None

    def __post_init__(self) -> None:
        took_time = self.seconds.get("total", 0) > 0 and self.span > 0
        if not (took_time and MIN_RATE < self.rate < MAX_RATE):
            raise ValueError("a sample took no time, or more than a run can take")

    def without_start(self, short: Sample) -> Sample:
        """The same sample without the processor time and energy that a ``short`` run needs.

        They are None where the short run is not much shorter: the rest would be noise.
        """

        def net(own: float | None, other: float | None) -> float | None:
            if own is None or other is None or self.images < 2 * short.images:
                return None
            return max(own - other, 0.0) * self.images / (self.images - short.images)

        return replace(
            self,
            cpu_seconds=net(self.cpu_seconds, short.cpu_seconds),
            joules=net(self.joules, short.joules),
        )

    @property
    def span(self) -> float:
        """Seconds of everything that takes longer the more images there are."""
        return self.seconds["total"] - sum(self.seconds.get(stage, 0.0) for stage in START)

    @property
    def rate(self) -> float:
        """Images per second in that time."""
        return self.images / self.span


@dataclass(frozen=True)
class Parity:
    """How the results of an engine differ from those of ``reference`` on the same ``images``.

    ``flips`` counts images with another label or outcome. ``difference`` is the largest difference
    between the two probabilities of an image's reported label.
    """

    reference: str
    images: Count
    flips: Count
    difference: Number


@dataclass(frozen=True)
class Point:
    """What was measured of one setting.

    ``network_rates`` are images per second of the network alone, on batches in memory,
    ``reading_rates`` of the reading processes alone. ``problem`` says why there are no samples.
    """

    setting: Setting
    samples: tuple[Sample, ...]
    network_rates: tuple[Number, ...]
    reading_rates: tuple[Number, ...]
    parity: Parity | None
    problem: str | None

    @property
    def is_shown(self) -> bool:
        """Whether it ran and its results were compared: no speed is shown without parity."""
        return bool(self.samples) and self.parity is not None and self.problem is None

    @property
    def rates(self) -> list[float]:
        """Images per second of each sample."""
        return [sample.rate for sample in self.samples]

    @property
    def rate(self) -> float:
        """The median of the rates, 0 where there are none."""
        return statistics.median(self.rates) if self.samples else 0.0

    @property
    def best_rate(self) -> float:
        """The rate of the fastest sample, 0 where there are none."""
        return max(self.rates, default=0.0)

    @property
    def spread(self) -> tuple[float, float]:
        """The 5th and the 95th percentile of the rates, of which there must be one at least."""
        import numpy as np

        low, high = np.percentile(self.rates, (5, 95))
        return float(low), float(high)


@dataclass(frozen=True)
class Start:
    """How long a whole ``batchdigit run`` over a few images takes: ``seconds`` of several runs."""

    engine: str
    seconds: Times

    @property
    def median(self) -> float:
        """The median of ``seconds``."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Check:
    """The advised command, run unchanged over ``images`` files; it took ``seconds`` each time."""

    command: str
    images: Count
    seconds: Times


@dataclass(frozen=True)
class Measurement:
    """Everything that ``batchdigit bench`` found out.

    ``machine``, ``versions``, ``model``, ``source`` and ``method`` are JSON data that say what was
    measured, with what and how. ``best`` is the setting of the advised point, None where nothing
    ran. Raises ValueError where two points have the same setting.
    """

    started: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    model: Mapping[str, Any]
    source: Mapping[str, Any]
    method: Mapping[str, Any]
    points: tuple[Point, ...]
    starts: tuple[Start, ...]
    best: Setting | None
    check: Check | None
    format: Count = FORMAT

    def __post_init__(self) -> None:
        if len({point.setting for point in self.points}) < len(self.points):
            raise ValueError("a setting is in it twice")

    def as_json(self) -> dict[str, Any]:
        """The whole measurement as JSON data, with the medians that people look for in it."""
        data = asdict(self)
        for point, of_point in zip(self.points, data["points"], strict=True):
            of_point["rate"] = point.rate
            for sample, of_sample in zip(point.samples, of_point["samples"], strict=True):
                of_sample["rate"] = sample.rate
        return data

    def start_of(self, setting: Setting) -> float | None:
        """Seconds that a command takes apart from its images, None where that was not measured."""
        found = [start.median for start in self.starts if start.engine == setting.engine]
        return found[0] if found else None
