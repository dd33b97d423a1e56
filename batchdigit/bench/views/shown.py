"""Which points of a measurement are drawn, and what is said about all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

from batchdigit.bench.analysis.advice import leading_points
from batchdigit.bench.facts import facts
from batchdigit.bench.measurement import Measurement, Point
from batchdigit.errors import BatchdigitError, one_line
from batchdigit.system.words import counted

MAX_ENGINES = 7  # as many colours as colour-blind eyes can tell apart
_MAX_NAME, _MAX_TITLE = 40, 150  # characters


@dataclass(frozen=True)
class Shown:
    """A measurement to look at. Every text in it is a single line."""

    measurement: Measurement

    @cached_property
    def measured(self) -> list[Point]:
        """The points to show. Raises BatchdigitError where there are none."""
        points = [point for point in self.measurement.points if point.is_shown]
        if not points:
            raise BatchdigitError(
                "there is nothing to draw: no setting has both a rate and a parity",
                "measure again, and see why each of them failed",
            )
        return points

    @cached_property
    def leaders(self) -> dict[str, Point]:
        """The best point of each engine that is drawn, the fastest engine first."""
        leaders = leading_points(self.measured)[:MAX_ENGINES]
        return {point.setting.engine: point for point in leaders}

    @property
    def engines(self) -> list[str]:
        """The engines that are drawn, the fastest first."""
        return list(self.leaders)

    @cached_property
    def points(self) -> list[Point]:
        """The points of the engines that are drawn."""
        return [point for point in self.measured if point.setting.engine in self.engines]

    @cached_property
    def workers(self) -> list[int]:
        """The numbers of workers that runs used, ascending."""
        return sorted({point.samples[0].workers for point in self.points})

    @cached_property
    def best(self) -> Point:
        """The point that is advised; if that is not drawn, the fastest one."""
        advised = [point for point in self.points if point.setting == self.measurement.best]
        return advised[0] if advised else next(iter(self.leaders.values()))

    @cached_property
    def title(self) -> str:
        """The machine, the date and the model."""
        model = facts(self.measurement.model)
        name = model.get("name") or PurePath(model.get("path", "")).name
        name = name or model.get("sha256", "unknown")[:12]
        date = one_line(self.measurement.started.replace("T", " "))[:16]
        return one_line(f"{_machine(self.measurement.machine)} · {date} · model {name}", _MAX_TITLE)

    @cached_property
    def notes(self) -> list[str]:
        """How the numbers came about, and which of them are missing."""
        images = sorted({one.images for point in self.measured for one in point.samples})
        samples = sorted({len(point.samples) for point in self.measured})
        method = (
            f"Each sample is a run over {_range(images, 'image')}, each point the median of "
            f"{_range(samples, 'sample')}; bars reach from the 5th to the 95th percentile. "
            "Start-up is not part of a rate."
        )
        notes = [method]
        left_out = len(self.measurement.points) - len(self.measured)
        notes.append(
            "Points without parity, and those that did not run, are not shown"
            + (f" ({left_out:,} of {len(self.measurement.points):,})." if left_out else ".")
        )
        if more := len({point.setting.engine for point in self.measured}) - len(self.engines):
            notes.append(
                f"The {MAX_ENGINES} fastest engines are drawn; {more:,} more are not shown."
            )
        return notes


def short(text: str, limit: int = _MAX_NAME) -> str:
    """A name that may come from anywhere, on one line and not too long."""
    return one_line(text, limit)


def in_words(point: Point) -> str:
    """What a run of the point used."""
    used = point.samples[0]
    return f"batch {used.batch_size:,}, {counted(used.workers, 'worker', separator=',')}"


def _range(values: list[int], noun: str) -> str:
    largest = counted(values[-1], noun, separator=",")
    return largest if len(values) == 1 else f"{values[0]:,} to {largest}"


def _machine(data: Mapping[str, Any]) -> str:
    known = facts(data)
    cores = known.get("cores", "")
    parts = [
        known.get("processor") or known.get("cpu") or "",
        counted(int(cores), "core") if cores.isdecimal() else "",
        known.get("gpu") or known.get("gpus") or "",
    ]
    named = [short(part, 60) for part in parts if part not in ("", "unknown")]
    named = named or [f"{name} {value}" for name, value in known.items()][:3]
    return ", ".join(named) or "unknown machine"
