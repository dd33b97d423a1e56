"""Everything a run writes: a journal while it runs, then the report, its account and its state."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from batchdigit.batches import Predictions
from batchdigit.errors import AccountingError, OutputError
from batchdigit.job import Job
from batchdigit.places import STDOUT, account_path, state_path
from batchdigit.reports.formats import ReportFormat, choose_format
from batchdigit.reports.recognise import ACCOUNT, REPORT, check_outputs
from batchdigit.reports.summary import RunSummary
from batchdigit.reports.table import Layout
from batchdigit.reports.terminal import ForTerminal
from batchdigit.reports.writer import ReportWriter
from batchdigit.resume.journal import Journal
from batchdigit.resume.last_report import StateWriter
from batchdigit.resume.past import Past
from batchdigit.sources.base import Source
from batchdigit.system.events import about
from batchdigit.system.lock import hold_output
from batchdigit.system.parents import parents_made
from batchdigit.system.publish import Publication, writing
from batchdigit.system.regular import check_own
from batchdigit.system.signals import signals_held, too_late_to_stop
from batchdigit.system.standard_output import standard_output

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def open_outputs(job: Job) -> Iterator[Outputs]:
    """Open everything a run writes, before any work is done, and keep other runs out meanwhile.

    If the block does not publish the new files, the old ones stay, and so does the journal of what
    was predicted. Raises UsageError, OutputError or OutputBusyError.
    """
    # Before files are made here, or another run is waited for:
    report_format = choose_format(job.out, job.format, bom=job.bom)
    check_outputs(job)
    if job.out == STDOUT:
        stdout = standard_output()
        if stdout is None:
            raise OutputError("standard output is closed", "give --out a file")
        report = stdout.buffer
        if stdout.isatty():
            report = cast("BinaryIO", ForTerminal(report))
        yield Outputs(job, report_format, report, None)
        return

    def say_waiting(holder: str) -> None:
        _LOG.info(
            "waiting for another run that writes %s (%s)",
            job.out,
            holder,
            extra=about("waiting", most_seconds=job.wait),
        )

    with (
        parents_made(job.out, wanted=job.parents),
        hold_output(job.out, wait=job.wait, on_wait=say_waiting),
        Journal(job.out) as journal,
        Publication(journal.folder, part_of=job.out, force=job.force) as publication,
    ):
        # The report comes last: it is published once the other files are in place.
        state = publication.create(state_path(job.out), own=True)
        check_own(account_path(job.out), private=False)  # others may read it, and nobody here does
        account = publication.create(account_path(job.out), ACCOUNT)
        report = publication.create(job.out, REPORT)
        try:
            beside = _Beside(publication, journal, account, state)
            yield Outputs(job, report_format, report, beside)
        except AccountingError:  # the journal itself may be wrong
            journal.discard()
            raise


@dataclass(frozen=True, eq=False)
class _Beside:
    """What is written with a report in a file, but not with one on standard output."""

    publication: Publication
    journal: Journal
    account: BinaryIO
    state: BinaryIO


class Outputs:
    """What a run knows from earlier runs, and where its rows go."""

    def __init__(
        self,
        job: Job,
        report_format: ReportFormat,
        report: BinaryIO,
        beside: _Beside | None,
    ) -> None:
        self._job = job
        self._format = report_format
        self._report = report
        self._beside = beside

    def recall(self, source: Source, binding: Mapping[str, Any], batch_size: int) -> Past:
        """What earlier runs with the same ``binding`` (JSON data) have done of ``source``.

        An unfinished run is resumed by whole batches of ``batch_size``. Raises GoneError, with all
        left as it is, if more files of the last report are gone than the job tolerates.
        """
        if self._beside is None:
            return Past.nothing(source)
        job = self._job
        past = Past.of(source, binding)
        if job.update:
            past = past.with_report(job, source)
        return past.with_journal(self._beside.journal, batch_size, fresh=job.fresh)

    @contextlib.contextmanager
    def open_table(self, past: Past, layout: Layout) -> Iterator[Table]:
        """Open the table of the report for rows."""
        with writing(self._job.out):
            report = ReportWriter(self._report, self._format, past.files, layout)
        with report:
            yield Table(self._job.out, report, past, self._beside)

    def publish(self) -> None:
        """Put all files in their places, and discard the journal.

        Once the files are flushed to the disk, a signal comes too late to stop anything.
        """
        if self._beside is not None:
            self._beside.publication.flush()
        with signals_held():
            if self._beside is not None:
                self._beside.publication.publish()
            too_late_to_stop()
            if self._beside is not None:
                with contextlib.suppress(OutputError):  # a journal that stays does no harm
                    self._beside.journal.discard()


class Table:
    """Writes rows to the report and to its state."""

    def __init__(self, out: Path, report: ReportWriter, past: Past, beside: _Beside | None) -> None:
        self._out = out
        self._report = report
        self._past = past
        self._beside = beside
        self._state = StateWriter(beside.state) if beside else None

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._report.rows

    def write(self, predictions: Predictions) -> None:
        """Append one row for each image of a batch. Raises AccountingError or OutputError."""
        with writing(self._out):
            self._report.write(predictions)
            if self._state is not None:
                self._state.write(predictions)

    def finish(self, summary: RunSummary) -> None:
        """Complete all files before they are published. Raises OutputError."""
        with writing(self._out):
            self._report.finish(summary.as_json())
            if self._state is not None and self._beside is not None:
                digest = self._report.digest
                described = summary.as_json() | {"report": {"name": self._out.name, **digest}}
                self._beside.account.write(json.dumps(described, indent=1).encode() + b"\n")
                self._state.finish(self._past.files, self._past.stamps, self._past.binding, digest)
