"""The one loop: for every image found, exactly one row comes out, a prediction or an error."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch

from batchdigit.checkpoint import Checkpoint, load_checkpoint
from batchdigit.device import choose_device, describe_device
from batchdigit.errors import AccountingError, ExitCode, OutputError, SourceError, UsageError
from batchdigit.filenames import FileList
from batchdigit.jobs import STDOUT, Job
from batchdigit.predictor import Predictor
from batchdigit.publish import Publication, writing
from batchdigit.reader import Reader, available_cores, default_start_method
from batchdigit.records import OnProgress, Predictions, RunSummary, no_progress
from batchdigit.source import EXTENSIONS, Listing, list_images
from batchdigit.stopwatch import Stopwatch
from batchdigit.version import __version__
from batchdigit.writer import Layout, ReportWriter

CPU_BATCH_SIZE = 256
GPU_BATCH_SIZE = 2048
IMAGES_WORTH_A_WORKER = 2000
MOST_WORKERS = 16


def run(job: Job, *, on_progress: OnProgress = no_progress) -> RunSummary:
    """Predict every image of ``job.source`` and publish the report at ``job.out``.

    ``on_progress(done, failed, found)`` is called after each batch. The account of the run goes
    to ``job.out`` with ``.run.json`` added, except for a report on standard output.

    Raises UsageError, CheckpointError, SourceError, OutputError, DeviceError, WorkerError or
    AccountingError; whichever it is, ``job.out`` is as it was before.
    """
    started = datetime.now(timezone.utc)
    stopwatch = Stopwatch()
    failures: Counter[str] = Counter()
    with Publication() as publication:
        stream, account = _open_outputs(job, publication)
        with (
            open_session(job, stopwatch) as session,
            ReportWriter(stream, job.report_format, session.files, session.layout) as report,
        ):
            for predictions in session.predictions():
                with stopwatch.stage("write"), writing(job.out):
                    report.write(predictions)
                failures.update(failure.stage for failure in predictions.failures)
                on_progress(report.rows, failures.total(), len(session.files))

            summary = RunSummary(
                found=len(session.files),
                predicted=report.predicted,
                failed=failures.total(),
                ignored=session.ignored,
                failures_by_stage=dict(failures),
                seconds=stopwatch.seconds(),
                device=describe_device(session.device),
                exit_code=_judge(job, failures.total(), len(session.files)),
                account=_account(job, session, started),
            )
            _check_sums(summary, report.rows)
            with stopwatch.stage("write"), writing(job.out):
                report.finish(summary.as_json())
        if account is not None:
            described = summary.as_json() | {"report": {"name": job.out.name, **report.digest}}
            with writing(_account_path(job.out)):
                account.write(json.dumps(described, indent=1).encode() + b"\n")
        with stopwatch.stage("write"):
            publication.publish()
    return replace(summary, seconds=stopwatch.seconds())


def stream(job: Job) -> Iterator[Predictions]:
    """The predictions of ``job.source``, batch by batch, in the order of the file names.

    The options of ``job`` that shape a report (``out``, ``format``, ``max_bad``) play no part.
    Raises what :func:`run` raises but OutputError.
    """
    with open_session(job, Stopwatch()) as session:
        for predictions in session.predictions():
            yield replace(predictions, files=session.files)


@dataclass(frozen=True)
class Session:
    """A run that is ready to go: images listed, model on its device, workers reading."""

    job: Job
    files: FileList
    ignored: FileList
    checkpoint: Checkpoint
    device: torch.device
    reader: Reader
    predictor: Predictor
    stopwatch: Stopwatch

    @property
    def layout(self) -> Layout:
        """The report's columns."""
        return Layout(
            self.checkpoint.classes,
            topk=self.job.topk,
            probs=self.job.probs,
            labels=self.job.labels,
        )

    def predictions(self) -> Iterator[Predictions]:
        """What became of each batch, in order, while the stopwatch runs.

        Raises AccountingError at the end when that is not what became of every file.
        """
        batches = self.stopwatch.each("read", self.reader)
        accounted = 0
        for predictions in self.stopwatch.each("predict", self.predictor.predict(batches)):
            accounted += len(predictions) + len(predictions.failures)
            yield predictions
        if accounted != len(self.files):
            raise AccountingError(
                f"found {len(self.files)} images, but {accounted} were predicted or failed",
                "please report this as a bug",
            )


@contextlib.contextmanager
def open_session(job: Job, stopwatch: Stopwatch) -> Iterator[Session]:
    """Get everything ready that ``job`` needs, cheapest checks first; end the workers after."""
    device = choose_device(job.device)
    with stopwatch.stage("load"):
        checkpoint = load_checkpoint(job.model, job.class_name)
    if job.labels and len(job.labels) != checkpoint.classes:
        raise UsageError(
            f"{len(job.labels)} labels do not name the model's {checkpoint.classes} classes",
            "give one name for each class, in their order",
        )
    if job.topk > checkpoint.classes:
        raise UsageError(
            f"--topk {job.topk} is more than the model's {checkpoint.classes} classes",
            "ask for fewer labels",
        )
    with stopwatch.stage("list"):
        listing = _list(job)
    with Reader(
        listing.images,
        batch_size=job.batch_size or _batch_size(device),
        workers=_workers(device, len(listing.images)) if job.workers is None else job.workers,
        start_method=job.start_method,
        reading=job.reading,
    ) as reader:
        with stopwatch.stage("load"):
            predictor = Predictor(
                checkpoint.model,
                device,
                precision=job.precision,
                k=checkpoint.classes if job.probs else job.topk,
            )
        yield Session(
            job, listing.images, listing.ignored, checkpoint, device, reader, predictor, stopwatch
        )


def _open_outputs(job: Job, publication: Publication) -> tuple[BinaryIO, BinaryIO | None]:
    """Streams for the report and for the account of the run, opened before any work is done."""
    if job.out == STDOUT:
        if sys.stdout is None:
            raise OutputError("standard output is closed", "give --out a file")
        return sys.stdout.buffer, None
    return publication.create(job.out), publication.create(_account_path(job.out))


def _account_path(out: Path) -> Path:
    return out.with_name(out.name + ".run.json")


def _list(job: Job) -> Listing:
    outputs = () if job.out == STDOUT else (job.out, _account_path(job.out))
    listing = list_images(job.source, follow_symlinks=job.follow_symlinks, exclude=outputs)
    if not len(listing.images):
        sources = ", ".join(map(str, job.source))
        endings = ", ".join(ending.decode() for ending in EXTENSIONS)
        raise SourceError(
            f"no images in {sources} ({len(listing.ignored)} other files)",
            f"an image's name ends in one of {endings}",
        )
    return listing


def _batch_size(device: torch.device) -> int:
    return CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE


def _workers(device: torch.device, images: int) -> int:
    """Worker processes for a run that did not ask for a number.

    On a CPU the network takes four times the work of reading: one worker to four cores keeps up.
    A GPU takes all that the cores can read. A small folder is read before a second worker has
    started. There is at least one where starting it costs no more than a fork: a file that
    crashes or stalls its reader must not do so to this process.
    """
    cores = available_cores()
    wanted = cores // 4 if device.type == "cpu" else cores
    most = min(wanted, MOST_WORKERS, images // IMAGES_WORTH_A_WORKER)
    return max(most, 1 if default_start_method() == "fork" else 0)


def _judge(job: Job, failed: int, found: int) -> ExitCode:
    return ExitCode.OK if job.max_bad.allows(failed, found) else ExitCode.BAD_IMAGES


def _check_sums(summary: RunSummary, rows: int) -> None:
    if not summary.found == summary.predicted + summary.failed == rows:
        raise AccountingError(
            f"found {summary.found} images, but predicted {summary.predicted}, "
            f"failed {summary.failed} and wrote {rows} rows",
            "nothing was published; please report this as a bug",
        )


def _account(job: Job, session: Session, started: datetime) -> dict[str, Any]:
    """Who made this report, from what and how: JSON data."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "versions": {
            "batchdigit": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        },
        "platform": platform.platform(),
        "model": {
            "path": str(job.model),
            "sha256": session.checkpoint.sha256,
            "kind": session.checkpoint.kind,
            "format": session.checkpoint.format,
            "classes": session.checkpoint.classes,
        },
        "options": json.loads(json.dumps(asdict(job), default=str)),
        "reader": {
            "batch_size": session.reader.batch_size,
            "workers": session.reader.workers,
            "start_method": session.reader.start_method,
        },
    }
