"""What a run need not predict: rows of the last report, and what an unfinished run has done."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions
from batchdigit.errors import GoneError
from batchdigit.job import Job
from batchdigit.places import MAX_ACCOUNT, account_path, state_path
from batchdigit.resume.frames import DamagedFrameError
from batchdigit.resume.journal import Journal, differences
from batchdigit.resume.last_report import State, read_state
from batchdigit.resume.update import Comparison, compare, gone_files
from batchdigit.sources.base import Source
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps
from batchdigit.system.events import about
from batchdigit.system.json_objects import read_json_object
from batchdigit.system.regular import OpenToOthersError
from batchdigit.system.words import counted

_LOG = logging.getLogger(__name__)
DELETED = "was deleted"


@dataclass(frozen=True, eq=False)
class Past:
    """What is known about ``files`` (N images) before they are read.

    ``places`` int64[M], ascending, are the positions of the images that must still be predicted.
    ``stamps`` show whether an image changes. ``binding`` (JSON data) is what else rows depend on.
    """

    files: FileList
    places: NDArray[np.int64]
    stamps: Stamps
    binding: Mapping[str, Any]
    journal: Journal | None = None
    state: State | None = None
    comparison: Comparison | None = None

    @classmethod
    def nothing(cls, source: Source) -> Past:
        """Every image must be predicted, and no later run will reuse the rows."""
        count = len(source)
        return cls(source.images, np.arange(count, dtype=np.int64), Stamps.unknown(count), {})

    @classmethod
    def of(cls, source: Source, binding: Mapping[str, Any]) -> Past:
        """Every image must be predicted, so far; ``binding`` is what else rows depend on."""
        count = len(source)
        return cls(
            source.images, np.arange(count, dtype=np.int64), source.stamps(range(count)), binding
        )

    def with_report(self, job: Job, source: Source) -> Past:
        """Add the rows of the last report that still hold; logs why if there are none to reuse.

        Raises GoneError if more of its files are gone than ``job`` tolerates, whether its rows can
        be reused or not.
        """
        state = _read_last_state(job.out)
        if state is None:
            _check_number(job, len(self.files))
            return self
        comparison = compare(state, self.files, self.stamps, retry_errors=job.retry_errors)
        _check_files(job, state, source, comparison)
        if others := differences(self.binding, state.binding):
            _LOG.warning(
                "the last report differs in %s: every image is predicted",
                ", ".join(others),
                extra=about("not_reused", why="settings", differences=others),
            )
            return self
        if became := _what_became_of(job.out, state):
            _LOG.warning(
                "%s %s since it was published: the reused rows come from %s",
                job.out,
                became,
                state.path,
                extra=about("report_deleted" if became == DELETED else "report_edited"),
            )
        taken = comparison.index_of[comparison.index_of >= 0]
        places = np.delete(self.places, taken)
        return replace(self, places=places, state=state, comparison=comparison)

    def with_journal(self, journal: Journal, batch_size: int, *, fresh: bool = False) -> Past:
        """Add what an unfinished run has done of ``places``, in whole batches.

        The rest will be recorded there. ``fresh`` forgets what was done.
        """
        bound = dict(self.binding) | {
            "batch size": batch_size,
            "files": _digest_files(self.files, self.stamps),
        }
        if self.state is not None and self.comparison is not None:
            taken = _sha256([self.comparison.index_of.tobytes()])
            bound["last report (--update, --retry-errors)"] = [self.state.report["sha256"], taken]
        journal.start(bound, self.places, batch_size, fresh=fresh)
        return replace(self, places=self.places[journal.rows :], journal=journal)

    @property
    def resumed(self) -> int:
        """How many rows an unfinished run had done."""
        return self.journal.rows if self.journal else 0

    def resume(self, predicted: Iterator[Predictions]) -> Iterator[Predictions]:
        """What an unfinished run has done, then the rest, ``predicted``, recorded as it passes."""
        if self.journal is None:
            return predicted
        return itertools.chain(self.journal.replay(), self.journal.record(predicted))

    def reused(self) -> Iterator[Predictions]:
        """The rows that are reused from the last report."""
        if self.state is None or self.comparison is None:
            return iter(())
        return self.state.rows(self.comparison.index_of)


def _read_last_state(out: Path) -> State | None:
    """The state of the last report; if there is none to be used, logs why not."""
    path = state_path(out)
    try:
        state = read_state(path)
    except OpenToOthersError as error:
        _LOG.warning(
            "%s: every image is predicted", error.problem, extra=about("not_reused", why="open")
        )
        return None
    except (OSError, DamagedFrameError) as error:
        why = f" ({error})" if str(error) else ""
        _LOG.warning(
            "%s is damaged or from another version%s: every image is predicted",
            path,
            why,
            extra=about("not_reused", why="damaged"),
        )
        return None
    if state is None:
        _LOG.info(
            "%s does not exist: no report to update, every image is predicted",
            path,
            extra=about("not_reused", why="missing"),
        )
    return state


def _check_files(job: Job, state: State, source: Source, comparison: Comparison) -> None:
    """Raise GoneError if too many of the files of a state are not in ``source``.

    Only the folder matters: whatever else is bound, such as the version of a decoder or whether
    links are followed, gives none of the files another name. ``r/*/`` with a single folder left in
    ``r`` starts from another folder: if one folder lies in the other, whole paths are compared.
    """
    before, now = state.binding.get("folder"), source.binding.get("folder")
    if not isinstance(before, str) or not isinstance(now, str):
        return
    gone, counts = comparison.gone, comparison.counts()
    if before != now:
        gone = gone_files(state.files, before, source.images, now)
        counts = {"gone": len(gone)}
    if len(gone):
        first = os.path.join(before, state.files.filename(int(gone[0])))
        _check_gone(job, counts, len(state.files), first=f" ({first} is the first)")


def _check_gone(
    job: Job, counts: Mapping[str, int], before: int, *, least: str = "", first: str = ""
) -> None:
    """Raise GoneError if too many of the files of the last report, ``before``, are gone."""
    gone = counts["gone"]
    if job.max_gone is not None and not job.max_gone.allows(gone, before):
        raise GoneError(
            f"{least}{gone} of the {counted(before, 'file')} of the last report {job.out} "
            f"{'is' if gone == 1 else 'are'} not found any more{first}: more than "
            f"--max-gone {job.max_gone} allows",
            f"see whether {', '.join(job.source)} is all that you mean, and all of it is mounted; "
            "if files are meant to be gone, add --max-gone 100%",
            counts,
        )


def _check_number(job: Job, found: int) -> None:
    """Raise GoneError if so many files fewer are found than before that too many must be gone.

    The account still tells their number where the state, which has their names, is of no use.
    """
    account = read_json_object(account_path(job.out), MAX_ACCOUNT)
    options, before = account.get("options"), account.get("found")
    if (
        isinstance(before, int)
        and found < before
        and isinstance(options, dict)
        and options.get("source") == list(job.source)
    ):
        _check_gone(job, {"gone": before - found}, before, least="at least ")


def _what_became_of(out: Path, state: State) -> str:
    """What was done to the last report, in words; empty if it is as it was published."""
    try:
        with open(out, "rb") as report:
            parts = iter(lambda: report.read(1 << 20), b"")
            return "" if _sha256(parts) == state.report["sha256"] else "was edited"
    except FileNotFoundError:
        return DELETED
    except OSError as error:
        return f"cannot be read ({error.strerror or error}), so that nobody knows what it became"


def _digest_files(files: FileList, stamps: Stamps) -> str:
    """A digest of the images of a journal, always new if one could change unnoticed."""
    names, offsets = files.as_arrays()
    moment = time.time_ns() if not stamps.settled.all() else 0
    parts = [array.tobytes() for array in (names, offsets, stamps.sizes, stamps.times)]
    return _sha256([*parts, moment.to_bytes(8, "little")])


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
