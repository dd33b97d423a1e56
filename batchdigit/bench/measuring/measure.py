"""``batchdigit bench``: parity, then speed, then what to make of it, within a given time."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from batchdigit.bench.analysis.advice import best_points
from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Measurement, Point
from batchdigit.bench.measuring.alone import check_command, compare_outcomes, measure_alone
from batchdigit.bench.measuring.clock import Clock, Say
from batchdigit.bench.measuring.engine import running
from batchdigit.bench.measuring.found import Found, find, images_of_samples
from batchdigit.bench.measuring.images import digits_in_a_folder
from batchdigit.bench.measuring.parity import parity_of
from batchdigit.bench.measuring.probes import Outcomes
from batchdigit.bench.measuring.rounds import sample_in_rounds
from batchdigit.bench.measuring.sweep import settings_to_try
from batchdigit.system.machine import CPUINFO, available_cores
from batchdigit.system.progress import OnProgress, no_progress


def measure(
    job: BenchJob, *, on_progress: OnProgress = no_progress, say: Say = lambda _line: None
) -> Measurement:
    """Measure what ``job`` asks for, by the method that benchmarks/METHOD.md describes.

    ``say`` is told about what cannot be measured. ``on_progress`` is called with the seconds that
    have passed, 0, and the seconds that there are.

    Raises UsageError, SourceError, CheckpointError and others where nothing can be measured.
    """
    started = datetime.now(timezone.utc)
    settings = settings_to_try(job)
    with contextlib.ExitStack() as stack:
        source = job.source or (stack.enter_context(digits_in_a_folder()),)
        clock = Clock(job.seconds, on_progress)
        found = find(job, settings, source)
        engines = stack.enter_context(running(job, found.engines))
        # Parity first: the speed of wrong results is of no interest.
        outcomes, problems = compare_outcomes(found, engines, clock, say)
        images, more_problems = images_of_samples(found, engines, outcomes, clock, say)
        points = _without_samples(found, outcomes, problems | more_problems)
        points, starts = sample_in_rounds(found, engines, images, points, clock, say)
        points = measure_alone(found, engines, points, clock, say)
        best = best_points(points, starts.found(), len(found.files))
        check = check_command(found, best.here, clock, say) if best else None
    first = next(iter(outcomes.values()))
    return Measurement(
        started=started.isoformat(timespec="seconds"),
        machine=_machine(outcomes),
        versions={name: text for one in outcomes.values() for name, text in one.versions.items()},
        model=first.model,
        source={
            "paths": [str(path) for path in job.source],
            "images": len(found.files),
            "compared": len(first.labels),
            "failed": first.failed,
            "preprocess": job.preprocess,
        },
        method={"seconds": job.seconds, "statistic": "median"},
        points=points,
        starts=starts.found(),
        best=best.here.setting if best else None,
        check=check,
    )


def _without_samples(
    found: Found, outcomes: Mapping[str, Outcomes], problems: Mapping[str, str]
) -> tuple[Point, ...]:
    """A point for each setting, with the parity of its engine or with the problem that it has."""
    return tuple(
        Point(
            setting=setting,
            samples=(),
            network_rates=(),
            reading_rates=(),
            parity=parity_of(setting.engine, found.engines, outcomes),
            problem=problems.get(setting.engine),
        )
        for setting in found.settings
    )


def _machine(outcomes: Mapping[str, Outcomes]) -> dict[str, object]:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
        memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:  # not Linux
        found = memory = None
    return {
        "cores": available_cores(),
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "memory bytes": int(memory[1]) * 1024 if memory else None,
        "devices": sorted({one.device for one in outcomes.values()}),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "host": platform.node(),
    }
