"""The one loop: for every image found, exactly one row comes out, a prediction or an error."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from batchdigit.auto import choose_batch_size, choose_workers, seconds_to_read
from batchdigit.backends.base import Backend, Model, Predictor
from batchdigit.backends.choice import open_backend
from batchdigit.batches import Batch, Predictions
from batchdigit.errors import AccountingError, ExitCode, UsageError
from batchdigit.job import Job
from batchdigit.reading.reader import Reader
from batchdigit.reports.fitted_images import check_outside, save_images
from batchdigit.reports.outputs import open_outputs
from batchdigit.reports.summary import RunSummary
from batchdigit.reports.survey import Survey
from batchdigit.reports.table import Layout, needs_review
from batchdigit.resume.past import Past
from batchdigit.resume.update import merge
from batchdigit.sources.filelist import FileList
from batchdigit.sources.find import Listing, find_images
from batchdigit.system.progress import OnProgress, no_progress
from batchdigit.system.signals import check_signals
from batchdigit.system.stopwatch import Stopwatch
from batchdigit.version import versions

Recall = Callable[[FileList, Mapping[str, Any], int], Past]
Find = Callable[[Job], Listing]


def run(job: Job, *, on_progress: OnProgress = no_progress, find: Find = find_images) -> RunSummary:
    """Predict every image of ``job.source`` and publish the report at ``job.out``.

    ``find`` may name other images instead. ``on_progress(done, failed, found)`` is called after
    each batch. The account of the run goes to ``job.out`` with ``.run.json`` added, except for a
    report on standard output. A run that does not end leaves a journal, from which the same job
    goes on.

    Raises UsageError, CheckpointError, SourceError, OutputError, OutputBusyError, DeviceError,
    WorkerError or AccountingError; whichever it is, ``job.out`` is as it was before. (Should the
    disk fail at the very last, while it makes the new report's name last, the report is complete.)
    """
    started = datetime.now(timezone.utc)
    stopwatch = Stopwatch()
    failures: Counter[str] = Counter()
    with (
        stopwatch.around("write", open_outputs(job)) as outputs,
        open_session(job, stopwatch, outputs.recall, find) as session,
        stopwatch.around("write", outputs.open_table(session.past, session.layout)) as table,
    ):
        for predictions in session.predictions():
            with stopwatch.stage("write"):
                table.write(predictions)
            failures.update(failure.stage for failure in predictions.failures)
            on_progress(table.rows, failures.total(), len(session.files))

        with stopwatch.stage("write"):
            summary = _summarize(session, failures, started)
            _check_sums(summary, table.rows)
            table.finish(summary)
            outputs.publish()
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
    listing: Listing
    past: Past
    backend: Backend
    model: Model
    reader: Reader
    predictor: Predictor
    stopwatch: Stopwatch
    survey: Survey
    batch_size_by: str
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def files(self) -> FileList:
        """The images found."""
        return self.listing.images

    @property
    def layout(self) -> Layout:
        """The report's columns."""
        return Layout(
            self.model.classes,
            topk=self.job.topk,
            probs=self.job.probs,
            labels=self.job.labels,
            review_below=self.job.review_below,
            explain=self.job.explain,
        )

    def predictions(self) -> Iterator[Predictions]:
        """What became of every file, in order and by batches, while the stopwatch runs.

        Raises AccountingError at the end when that is not what became of every file.
        """
        batches = self._read()
        if self.job.save_fitted is not None:
            saved = save_images(batches, self.files, self.job.save_fitted)
            batches = self.stopwatch.each("save", saved)
        predicted = self._busy(self.stopwatch.each("predict", self.predictor.predict(batches)))
        fresh = self._count("predicted", self.past.resume(predicted))
        reused = self._count("reused", self.past.reused())
        for predictions in self.stopwatch.each("journal", merge(reused, fresh)):
            check_signals()
            self.survey.count(predictions)
            below = self.job.review_below
            self.counts["to review"] += int(needs_review(predictions, below).sum())
            yield predictions
        rows = self.counts["predicted"] + self.counts["reused"] + self.counts["failed"]
        if rows != len(self.files):
            raise AccountingError(
                f"found {len(self.files)} images, but {rows} have an outcome",
                "please report this as a bug",
            )

    def _read(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.stopwatch.each("read", self.reader)):
            if not number:
                # What the first one took beyond being read, those who read took to start.
                waited = self.stopwatch.seconds()["read"]
                late = max(waited - sum(batch.busy.values()), 0.0)
                self.stopwatch.shift("read", "start", late)
            yield batch

    def _busy(self, parts: Iterator[Predictions]) -> Iterator[Predictions]:
        for predictions in parts:
            self.stopwatch.add_work(predictions.busy)
            yield predictions

    def _count(self, outcome: str, parts: Iterator[Predictions]) -> Iterator[Predictions]:
        for predictions in parts:
            self.counts[outcome] += len(predictions)
            self.counts["failed"] += len(predictions.failures)
            yield predictions

    def account(self) -> dict[str, Any]:
        """From what predictions are made and how: JSON data."""
        return {
            "versions": versions(self.backend.name) | {"python": platform.python_version()},
            # Not platform.platform(), which runs another program for what is not said here.
            "platform": "-".join([platform.system(), platform.release(), platform.machine()]),
            "model": {
                "path": str(self.job.model),
                "sha256": self.model.sha256,
                "kind": self.model.kind,
                "format": self.model.format,
                "classes": self.model.classes,
            },
            "options": json.loads(json.dumps(asdict(self.job), default=str)),
            "computed": {
                "backend": self.backend.name,
                "device": self.backend.device,
                "precision": self.backend.precision,
                **self.backend.details(),
            },
            "reader": {
                "batch_size": self.reader.batch_size,
                "batch_size_by": self.batch_size_by,
                "workers": self.reader.workers,
                "start_method": self.reader.start_method,
            },
        }


@contextlib.contextmanager
def open_session(
    job: Job, stopwatch: Stopwatch, recall: Recall | None = None, find: Find = find_images
) -> Iterator[Session]:
    """Get everything ready that ``job`` needs, cheapest checks first; end the workers after.

    ``recall(files, binding, batch_size)``, where given, says what need not be predicted again.
    """
    if job.save_fitted is not None:
        check_outside(job.save_fitted, job.source)
    with stopwatch.stage("import"):
        backend = open_backend(job)
    with stopwatch.stage("load"):
        model = backend.load(job.model, job.class_name)
    if job.labels and len(job.labels) != model.classes:
        raise UsageError(
            f"{len(job.labels)} labels do not name the model's {model.classes} classes",
            "give one name for each class, in their order",
        )
    if job.topk > model.classes:
        raise UsageError(
            f"--topk {job.topk} is more than the model's {model.classes} classes",
            "ask for fewer labels",
        )
    k = model.classes if job.probs else min(max(job.topk, 2), model.classes)
    with stopwatch.stage("list"):
        listing = find(job)
        seconds = seconds_to_read(job, listing.images)
    with stopwatch.stage("load"):
        batch_size, batch_size_by = choose_batch_size(
            job, backend, model, seconds, len(listing.images)
        )
    with stopwatch.stage("list"):
        past = Past.nothing(listing.images)
        if recall is not None:
            past = recall(listing.images, _binding(job, backend, model, k, listing), batch_size)
    reader = Reader(
        listing.images,
        batch_size=batch_size,
        workers=choose_workers(
            *(job, backend, seconds, len(past.places)),
            batches=math.ceil(len(past.places) / batch_size),
        ),
        start_method=job.start_method,
        reading=job.reading,
        places=past.places,
        open_workers=backend.open_workers,
    )
    with contextlib.ExitStack() as reading:
        with stopwatch.stage("start"):
            reading.enter_context(reader)
        with stopwatch.stage("load"):
            predictor = backend.predictor(model, k)
        yield Session(
            *(job, listing, past, backend, model, reader, predictor, stopwatch),
            survey=Survey(listing.images),
            batch_size_by=batch_size_by,
        )
        with stopwatch.stage("end"):
            reading.close()


def _binding(job: Job, backend: Backend, model: Model, k: int, listing: Listing) -> dict[str, Any]:
    """What a row depends on beside its file, each under the name that it has in a message."""
    return {
        "--backend": backend.name,
        "versions": versions(backend.name),
        "model": model.sha256,
        "folder": os.fsdecode(listing.images.root),
        "device": backend.device,
        # Another kind of processor rounds in another order.
        "processor": backend.processor,
        "--precision": backend.precision,
        "--topk or --probs": k,
        "--preprocess": job.preprocess,
        # No row depends on it, but the first run into a folder must not leave out what is known.
        "--save-fitted": os.path.realpath(job.save_fitted) if job.save_fitted else "",
        "limits (--max-bytes, --max-pixels, --timeout, --follow-symlinks)": [
            *(job.max_bytes, job.max_pixels, job.timeout, job.follow_symlinks)
        ],
    }


def _judge(job: Job, failed: int, found: int) -> ExitCode:
    return ExitCode.OK if job.max_bad.allows(failed, found) else ExitCode.BAD_IMAGES


def _summarize(session: Session, failures: Mapping[str, int], started: datetime) -> RunSummary:
    counts, comparison = session.counts, session.past.comparison
    return RunSummary(
        found=len(session.files),
        predicted=counts["predicted"],
        reused=counts["reused"],
        failed=counts["failed"],
        resumed=session.past.resumed,
        update=comparison.counts() if comparison else None,
        ignored=session.listing.ignored,
        failures_by_stage=dict(failures),
        to_review=counts["to review"],
        notes=session.survey.notes(),
        seconds=session.stopwatch.seconds(),
        busy=session.stopwatch.busy,
        backend=session.backend.name,
        device=session.backend.device,
        exit_code=_judge(session.job, counts["failed"], len(session.files)),
        account={"started": started.isoformat(timespec="seconds"), **session.account()},
    )


def _check_sums(summary: RunSummary, rows: int) -> None:
    if not summary.found == summary.predicted + summary.reused + summary.failed == rows:
        raise AccountingError(
            f"found {summary.found} images, but predicted {summary.predicted}, reused "
            f"{summary.reused}, failed {summary.failed} and wrote {rows} rows",
            "nothing was published; please report this as a bug",
        )
