"""The outcome of a run as a file for the textfile collector of Prometheus' node_exporter."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from batchdigit.errors import GoneError, OutputError
from batchdigit.reports.summary import RunSummary
from batchdigit.system.publish import Publication, writing
from batchdigit.system.regular import head
from batchdigit.system.replacing import Kind

METRICS = Kind("a file of metrics", lambda path: head(path).startswith(b"# HELP batchdigit_"))


class Metrics:
    """What is known about a run; ``summary`` is set once there is one.

    ``update`` says how the images compare with those of the last report, if it was looked at.
    """

    def __init__(self) -> None:
        self.summary: RunSummary | None = None
        self.refused: Mapping[str, int] | None = None

    @property
    def update(self) -> Mapping[str, int]:
        """How many files are unchanged, new, changed, gone, retried; empty if that is unknown."""
        return (self.summary.update if self.summary else self.refused) or {}


@contextlib.contextmanager
def write_metrics(path: Path | None, out: Path, *, force: bool = False) -> Iterator[Metrics]:
    """Write the metrics of the run in the block to ``path``, however it ends.

    The file appears by one rename. For a run that fails, it holds the exit code, time and
    duration, but no counts of rows. Raises OutputError if the file cannot be written, or is not of
    this kind and ``force`` is not given, before the block where possible.
    """
    metrics = Metrics()
    if path is None:
        yield metrics
        return
    with Publication(force=force) as trial:  # check the path before hours of work, not after
        trial.create(path, METRICS)
    start = time.monotonic()
    try:
        yield metrics
    except BaseException as error:
        broken_pipe = 128 + 13 if isinstance(error, BrokenPipeError) else 1
        exit_code = int(getattr(error, "exit_code", broken_pipe))
        if isinstance(error, GoneError):
            metrics.refused = error.counts
        try:
            _write(path, _exposition(metrics, exit_code, time.monotonic() - start, out), force)
        except OutputError:
            if metrics.summary is not None:  # otherwise the run's own failure says more
                raise
        raise
    _write(path, _exposition(metrics, 0, time.monotonic() - start, out), force)


def _write(path: Path, text: bytes, force: bool) -> None:
    with Publication(force=force) as publication, writing(path):
        publication.create(path, METRICS).write(text)
        publication.publish()


def _exposition(metrics: Metrics, exit_code: int, seconds: float, out: Path) -> bytes:
    """The metrics in Prometheus' text format."""
    summary = metrics.summary
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    # The collector's folder may hold one file for each report.
    report = os.fsencode(os.path.abspath(out)).decode("utf-8", "backslashreplace")

    def gauge(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
        full_name = f"batchdigit_last_run_{name}"
        return Gauge(full_name, meaning, ("report", *labels), registry=registry)

    gauge("timestamp_seconds", "When the last run ended, in Unix time.").labels(report).set(
        time.time()
    )
    gauge("duration_seconds", "How long the last run took.").labels(report).set(seconds)
    gauge("exit_code", "Exit code of the last run, 0 when all is well.").labels(report).set(
        exit_code
    )
    if metrics.update:
        files = gauge("files", "Files of the last run against the report before it.", ("change",))
        for change, count in metrics.update.items():
            files.labels(report, change).set(count)
    if summary is not None:
        images = gauge("images", "Images of the last run by outcome.", ("outcome",))
        for outcome in ("predicted", "reused", "failed"):
            images.labels(report, outcome).set(getattr(summary, outcome))
        gauge("to_review", "Predictions of the last run that need a person's review.").labels(
            report
        ).set(summary.to_review)
        gauge(
            "more_pages", "Files of the last run of which only the first of several pages was read."
        ).labels(report).set(summary.more_pages)
        failures = gauge("failures", "Error rows of the last run by what failed.", ("stage",))
        for stage, count in summary.failures_by_stage.items():
            failures.labels(report, stage).set(count)
        left_out = gauge("left_out", "Files in the sources that are no images.", ("ending",))
        for ending, count in summary.left_out.items():
            left_out.labels(report, ending).set(count)
        gauge("images_per_second", "Images of the last run over its duration.").labels(report).set(
            summary.images_per_second
        )
    return generate_latest(registry)
