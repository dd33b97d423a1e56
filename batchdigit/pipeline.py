"""The one loop: for every image found, exactly one row comes out, a prediction or an error."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from batchdigit.batches import Failure, Predictions
from batchdigit.engines.base import Engine, OpenEngine
from batchdigit.engines.local import LocalEngine
from batchdigit.errors import AccountingError, ExitCode, UsageError
from batchdigit.job import Job
from batchdigit.reports.fitted_images import check_outside
from batchdigit.reports.outputs import open_outputs
from batchdigit.reports.summary import FailedRow, RunSummary
from batchdigit.reports.survey import Survey
from batchdigit.reports.table import Layout, needs_review
from batchdigit.resume.past import Past
from batchdigit.resume.update import merge
from batchdigit.sources.base import Source
from batchdigit.sources.find import find_images
from batchdigit.system.progress import OnProgress, no_progress
from batchdigit.system.signals import check_signals
from batchdigit.system.stopwatch import Stopwatch
from batchdigit.system.words import counted

FIRST_FAILURES = 3

Find = Callable[[Job], Source]
Recall = Callable[[Source, Mapping[str, Any], int], Past]


def run(
    job: Job,
    *,
    on_progress: OnProgress = no_progress,
    find: Find = find_images,
    open_engine: OpenEngine = LocalEngine,
) -> RunSummary:
    """Predict every image of ``job.source`` and publish the report at ``job.out``.

    ``find`` may find other images instead, and ``open_engine`` may open another engine.
    ``on_progress(done, failed, found)`` is called after each batch. The account of the run goes to
    ``job.out`` with ``.run.json`` added, except for a report on standard output. A run that does
    not finish leaves a journal, from which the same job continues.

    Raises UsageError, CheckpointError, SourceError, OutputError, GoneError, OutputBusyError,
    DeviceError, WorkerError or AccountingError. In each case ``job.out`` is as it was before. The
    one exception: if the disk fails after the final rename, ``job.out`` is the new report,
    complete.
    """
    started = datetime.now(timezone.utc)
    stopwatch = Stopwatch()
    with (
        stopwatch.around("write", open_outputs(job)) as outputs,
        open_session(
            job, stopwatch, recall=outputs.recall, find=find, open_engine=open_engine
        ) as session,
        stopwatch.around("write", outputs.open_table(session.past, session.layout)) as table,
    ):
        for predictions in session.predictions():
            with stopwatch.stage("write"):
                table.write(predictions)
            on_progress(table.rows, session.tally.failures.total(), len(session.source))

        with stopwatch.stage("write"):
            summary = _summarize(session, started)
            _check_sums(summary, table.rows)
            table.finish(summary)
            outputs.publish()
    return replace(summary, seconds=stopwatch.seconds())


def stream(job: Job) -> Iterator[Predictions]:
    """The predictions of ``job.source``, batch by batch, in the order of the images' names.

    The options of ``job`` that concern a report in a file (``out``, ``format``, ``max_bad``, those
    of resuming) are ignored. Raises what :func:`run` raises, but OutputError only if images cannot
    be saved (``save_fitted``), and never GoneError or OutputBusyError.
    """
    with open_session(job, Stopwatch()) as session:
        for predictions in session.predictions():
            yield replace(predictions, files=session.source.images)


@dataclass
class Tally:
    """How many rows there are so far, by outcome: ``predicted``, ``reused`` and ``failed``.

    ``failures`` are counted by stage; ``first_failures`` are the first of them.
    """

    rows: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    first_failures: list[Failure] = field(default_factory=list)
    to_review: int = 0
    more_pages: int = 0

    def counting(self, outcome: str, parts: Iterator[Predictions]) -> Iterator[Predictions]:
        """Pass ``parts`` on, and count their images as ``outcome``, their failures as failed."""
        for predictions in parts:
            self.rows[outcome] += len(predictions)
            self.rows["failed"] += len(predictions.failures)
            yield predictions

    def fail(self, failures: Iterable[Failure]) -> None:
        """Count failures, and keep the first of all."""
        self.failures.update(failure.stage for failure in failures)
        if len(self.first_failures) < FIRST_FAILURES:
            in_order = sorted(failures, key=lambda failure: failure.index)
            self.first_failures += in_order[: FIRST_FAILURES - len(self.first_failures)]


@dataclass(frozen=True, eq=False)
class Session:
    """A run that is ready to go: images listed, model loaded, work begun."""

    job: Job
    source: Source
    past: Past
    engine: Engine
    computed: Iterator[Predictions]
    stopwatch: Stopwatch
    survey: Survey
    tally: Tally

    @property
    def layout(self) -> Layout:
        """The report's columns."""
        return Layout.of(self.job, self.engine.classes)

    def predictions(self) -> Iterator[Predictions]:
        """The outcome of every image, in order: reused rows and computed ones, merged.

        Computed rows go through the journal, after those that an unfinished run has left in it.
        Raises AccountingError at the end if there are not as many rows as images.
        """
        reused = self.tally.counting("reused", self.past.reused())
        computed = self.tally.counting("predicted", self.past.resume(self.computed))
        for predictions in self.stopwatch.each("journal", merge(reused, computed)):
            check_signals()
            self.stopwatch.add_work(predictions.busy)
            self.survey.count(predictions)
            self.tally.fail(predictions.failures)
            self.tally.to_review += int(needs_review(predictions, self.job.review_below).sum())
            self.tally.more_pages += predictions.more_pages
            yield predictions
        found, rows = len(self.source), self.tally.rows.total()
        if rows != found:
            raise AccountingError(
                f"found {counted(found, 'image')}, but {rows} have an outcome",
                "please report this as a bug",
            )


@contextlib.contextmanager
def open_session(
    job: Job,
    stopwatch: Stopwatch,
    *,
    recall: Recall | None = None,
    find: Find = find_images,
    open_engine: OpenEngine = LocalEngine,
) -> Iterator[Session]:
    """Prepare everything that ``job`` needs, cheapest checks first; end the work afterwards.

    ``recall(source, binding, batch_size)``, if given, says what need not be computed again.
    """
    if job.save_fitted is not None:
        check_outside(job.save_fitted, job.source)
    engine = open_engine(job, stopwatch)
    job = engine.job
    _check_classes(job, engine.classes)
    with stopwatch.stage("list"):
        source = find(job)
    batch_size = engine.batch_size(source)
    with stopwatch.stage("list"):
        if recall is None:
            past = Past.nothing(source)
        else:
            past = recall(source, _binding(job, engine, source), batch_size)
    with engine.predictions(source, past.places) as computed:
        survey = Survey(source.images)
        yield Session(job, source, past, engine, computed, stopwatch, survey, Tally())


def _check_classes(job: Job, classes: int) -> None:
    if job.labels and len(job.labels) != classes:
        raise UsageError(
            f"{counted(len(job.labels), 'label')} do not name the model's "
            f"{counted(classes, 'class', 'classes')}",
            "give one name for each class, in order",
        )
    if job.topk > classes:
        raise UsageError(
            f"--topk {job.topk} is more than the model's {counted(classes, 'class', 'classes')}",
            "use a smaller --topk",
        )


def _binding(job: Job, engine: Engine, source: Source) -> dict[str, Any]:
    """What a row depends on, apart from its image; the keys are the names messages use."""
    return {
        **engine.binding,
        **source.binding,
        "--preprocess": job.preprocess,
        # No row depends on it, but a run into a new folder must save the images of all rows.
        "--save-fitted": os.path.realpath(job.save_fitted) if job.save_fitted else "",
        "limits (--max-bytes, --max-pixels, --timeout)": [
            job.max_bytes,
            job.max_pixels,
            job.timeout,
        ],
    }


def _summarize(session: Session, started: datetime) -> RunSummary:
    job, tally, engine = session.job, session.tally, session.engine
    made_by = engine.account()
    if version := session.source.binding.get("pillow-heif"):  # which some sources depend on
        made_by["versions"]["pillow-heif"] = version
    found = len(session.source)
    comparison = session.past.comparison
    fine = job.max_bad.allows(tally.rows["failed"], found)
    return RunSummary(
        found=found,
        predicted=tally.rows["predicted"],
        reused=tally.rows["reused"],
        failed=tally.rows["failed"],
        resumed=session.past.resumed,
        update=comparison.counts() if comparison else None,
        ignored=session.source.ignored,
        failures_by_stage=dict(tally.failures),
        first_failures=tuple(
            FailedRow(session.source.images.filename(failure.index), failure.text)
            for failure in tally.first_failures
        ),
        to_review=tally.to_review,
        more_pages=tally.more_pages,
        fitted=session.survey.fitted,
        dark_on_light=session.survey.inverted.total(),
        faint=session.survey.faint.total(),
        notes=session.survey.notes(),
        seconds=session.stopwatch.seconds(),
        busy=session.stopwatch.busy,
        backend=engine.backend,
        device=engine.device,
        exit_code=ExitCode.OK if fine else ExitCode.BAD_IMAGES,
        account={
            "started": started.isoformat(timespec="seconds"),
            # Not platform.platform(), which runs another program for facts that are not given here.
            "platform": "-".join([platform.system(), platform.release(), platform.machine()]),
            "options": json.loads(json.dumps(asdict(replace(job, module=None)), default=str)),
            **made_by,
        },
    )


def _check_sums(summary: RunSummary, rows: int) -> None:
    if not summary.found == summary.predicted + summary.reused + summary.failed == rows:
        raise AccountingError(
            f"found {counted(summary.found, 'image')}, but predicted {summary.predicted}, reused "
            f"{summary.reused}, failed {summary.failed} and wrote {counted(rows, 'row')}",
            "nothing was published; please report this as a bug",
        )
