"""``batchdigit bench``: parity, then speed, then what to make of it, within a given time."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from batchdigit.bench.analysis.advice import best_points
from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Measurement
from batchdigit.bench.measuring.images import digits_in_a_folder
from batchdigit.bench.measuring.rounds import Bench, Clock, Say
from batchdigit.bench.measuring.sweep import settings_to_try
from batchdigit.sources.find import check_images
from batchdigit.sources.folder import open_folders
from batchdigit.system.machine import CPUINFO, available_cores
from batchdigit.system.progress import OnProgress, no_progress


def measure(
    job: BenchJob, *, on_progress: OnProgress = no_progress, say: Say = lambda _line: None
) -> Measurement:
    """Measure what ``job`` asks for; ``say`` is told of what cannot be measured.

    ``on_progress`` is called with the seconds that are over, 0, and those that there are.

    Raises UsageError, SourceError, CheckpointError and others where nothing can be measured.
    """
    started = datetime.now(timezone.utc)
    settings = settings_to_try(job)
    with contextlib.ExitStack() as stack:
        source = job.source or (stack.enter_context(digits_in_a_folder()),)
        clock = Clock(job.seconds)
        files = open_folders(source)
        check_images(files, source)
        listing = clock.seconds / len(files)
        bench = Bench(job, files, listing, settings, on_progress, say)
        stack.enter_context(bench.engines())
        bench.compare_outcomes()
        bench.sample_in_rounds()
        bench.measure_alone()
        points = bench.points()
        best = best_points(points, tuple(bench.starts_found()), len(files))
        check = bench.check(best.here) if best else None
        first = next(iter(bench.outcomes.values()))
        return Measurement(
            started=started.isoformat(timespec="seconds"),
            machine=_machine([outcomes.device for outcomes in bench.outcomes.values()]),
            versions=bench.versions(),
            model=first.model,
            source={
                "paths": [str(path) for path in job.source],
                "images": len(files),
                "compared": len(first.labels),
                "failed": first.failed,
                "preprocess": job.preprocess,
            },
            method={"seconds": job.seconds, "statistic": "median"},
            points=points,
            starts=tuple(bench.starts_found()),
            best=best.here.setting if best else None,
            check=check,
        )


def _machine(devices: Sequence[str]) -> dict[str, object]:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
        memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:  # not Linux
        found = memory = None
    return {
        "cores": available_cores(),
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "memory bytes": int(memory[1]) * 1024 if memory else None,
        "devices": sorted(set(devices)),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "host": platform.node(),
    }
