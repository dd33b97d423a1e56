"""What a benchmark measured: settings, samples, points. All of it is JSON data as well.

Times are wall-clock seconds, rates images a second, memory bytes, energy joules, unless said
otherwise.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

FORMAT = 1  # of the JSON data; another number is another format
START = ("import", "load", "start", "end")
"""Stages that take as long however many images there are, which are no part of a rate."""
LOOP = ("list", "read", "save", "predict", "journal", "write")
"""The others."""
READING = ("read", "decode", "fit")
WORK = (*READING, "transfer", "network")
"""Stages that worker processes, threads and devices spend time in beside the main thread."""


@dataclass(frozen=True)
class Setting:
    """A way to run: values of the options of ``batchdigit run``. None is ``auto``."""

    backend: str
    device: str
    precision: str
    batch_size: int | None = None
    workers: int | None = None

    @property
    def engine(self) -> str:
        """What computes: backend, device and precision, ``torch on cuda in fp16``."""
        return f"{self.backend} on {self.device} in {self.precision}"

    @property
    def label(self) -> str:
        """The whole setting in words."""
        return f"{self.engine}, batch {_or_auto(self.batch_size)}, workers {_or_auto(self.workers)}"

    @property
    def options(self) -> list[str]:
        """Options for ``batchdigit run``; what is ``auto`` is left out."""
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
    """One run of a setting over ``images`` files, after another one that warmed it up.

    ``seconds`` has the stages of the main thread, which add up to its ``total`` (see
    :class:`batchdigit.RunSummary`), ``busy`` the seconds of work in each stage of ``WORK``, summed
    over all processes and threads that did it. ``batch_size``, ``workers`` and ``threads`` are
    those that the run chose. ``cpu_seconds`` is the processor time of all processes, ``joules`` the
    energy that the machine used, ``peak_memory`` the largest resident set of the main process.
    What could not be measured is None.
    """

    images: int
    seconds: Mapping[str, float]
    busy: Mapping[str, float]
    cpu_seconds: float | None
    batch_size: int
    workers: int
    threads: int
    peak_memory: int | None = None
    peak_device_memory: int | None = None
    joules: float | None = None

    def without_start(self, short: Sample) -> Sample:
        """The same, less the processor time and energy that a ``short`` run takes to start.

        They are None where the other run is not much shorter: what is left would be noise.
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
        """Seconds of all that takes longer the more images there are."""
        return self.seconds["total"] - sum(self.seconds.get(stage, 0.0) for stage in START)

    @property
    def rate(self) -> float:
        """Images a second in that time."""
        return self.images / self.span


@dataclass(frozen=True)
class Parity:
    """How the results of an engine differ from those of ``reference`` on the same ``images``.

    ``flips`` counts images with another label or outcome, ``difference`` is the largest of two
    probabilities of one image's reported label.
    """

    reference: str
    images: int
    flips: int
    difference: float


@dataclass(frozen=True)
class Point:
    """What was measured of one setting.

    ``network_rates`` are images a second of the network alone, on batches that are in memory,
    ``reading_rates`` of the processes that read alone. ``problem`` says why there are no samples.
    """

    setting: Setting
    samples: tuple[Sample, ...] = ()
    network_rates: tuple[float, ...] = ()
    reading_rates: tuple[float, ...] = ()
    parity: Parity | None = None
    problem: str | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it has run, and its results were compared: no speed without parity."""
        return bool(self.samples) and self.parity is not None and self.problem is None

    @property
    def rates(self) -> list[float]:
        """Images a second of each sample."""
        return [sample.rate for sample in self.samples]

    @property
    def rate(self) -> float:
        """Their median, 0 where there are none."""
        return statistics.median(self.rates) if self.samples else 0.0


@dataclass(frozen=True)
class Start:
    """What a whole ``batchdigit run`` of a few images takes: ``seconds`` of each of some runs."""

    engine: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of ``seconds``."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Check:
    """The advised command, run as it stands over ``images`` files in ``seconds`` each time."""

    command: str
    images: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """Everything that ``batchdigit bench`` found out.

    ``machine``, ``versions``, ``model``, ``source`` and ``method`` are JSON data that say on what,
    with what and how. ``best`` is the setting of the point that is advised, None where nothing ran.
    """

    started: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    model: Mapping[str, Any]
    source: Mapping[str, Any]
    method: Mapping[str, Any]
    points: tuple[Point, ...]
    starts: tuple[Start, ...] = ()
    best: Setting | None = None
    check: Check | None = None
    format: int = field(default=FORMAT)

    def as_json(self) -> dict[str, Any]:
        """The whole as JSON data, with the medians that people look for in it."""
        data = asdict(self)
        for point, of_point in zip(self.points, data["points"], strict=True):
            of_point["rate"] = point.rate
            for sample, of_sample in zip(point.samples, of_point["samples"], strict=True):
                of_sample["rate"] = sample.rate
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Undo :meth:`as_json`. Raises KeyError, TypeError or ValueError for other data."""
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, not {FORMAT}")
        best, check = data["best"], data["check"]
        return cls(
            **{name: data[name] for name in ("started", "machine", "versions", "model")},
            **{name: data[name] for name in ("source", "method")},
            points=tuple(map(_point, data["points"])),
            starts=tuple(_made(Start, start) for start in data["starts"]),
            best=None if best is None else _made(Setting, best),
            check=None if check is None else _made(Check, check),
        )

    def start_of(self, setting: Setting) -> float | None:
        """Seconds that a command takes beside its images, None where that was not measured."""
        found = [start.median for start in self.starts if start.engine == setting.engine]
        return found[0] if found else None


def _point(data: Mapping[str, Any]) -> Point:
    parity = data["parity"]
    point: Point = _made(
        Point,
        {
            **data,
            "setting": _made(Setting, data["setting"]),
            "samples": [_made(Sample, sample) for sample in data["samples"]],
            "parity": None if parity is None else _made(Parity, parity),
        },
    )
    return point


def _made(kind: Any, data: Mapping[str, Any]) -> Any:
    """A record of ``kind`` from the JSON data of its fields, and what was added left out."""
    values = {item.name: data[item.name] for item in fields(kind)}
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    )


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which a ``share`` of them is, between two of them by proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
