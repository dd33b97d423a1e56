"""The outcome of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from batchdigit.errors import ExitCode
from batchdigit.sources.endings import count_endings

if TYPE_CHECKING:
    from batchdigit.sources.filelist import FileList


@dataclass(frozen=True)
class FolderNote:
    """A folder in which ``count`` of ``images`` are of one ``kind``.

    Kinds are ``blank``, ``inverted`` (dark ink on a light ground), and ``faint`` (darker than any
    of MNIST's images, and not fitted).
    """

    folder: str
    images: int
    kind: str
    count: int


@dataclass(frozen=True)
class FailedRow:
    """The name of an image as it is in the report, and its ``error``."""

    filename: str
    error: str


@dataclass(frozen=True)
class RunSummary:
    """The outcome of a finished run. ``found`` is always ``predicted + reused + failed``.

    ``reused`` counts predictions from the last report; ``failed`` counts all error rows, including
    reused ones, and ``first_failures`` are the first few. ``update`` says how the images compare
    with those of the last report (``unchanged``, ``new``, ``changed``, ``gone``, ``retried``); it
    is None without ``--update``. ``resumed`` counts rows that an unfinished run had done.
    ``to_review`` counts predictions that need a person's review; ``more_pages`` counts files of
    which only the first page was read. ``ignored`` are the names of the files that were left out.
    ``fitted`` counts predictions on images that were fitted, ``dark_on_light`` those on images of
    dark ink on a light ground, and ``faint`` those on images fainter than any of MNIST's that were
    not fitted. ``notes`` name folders in which nearly all images are of one kind.

    ``seconds`` holds wall-clock seconds of the main thread by stage and in ``total``: ``import``,
    ``load``, ``list``, ``start`` (of worker processes), ``read``, ``save``, ``predict``,
    ``journal``, ``write`` and ``end`` (of worker processes). ``read`` and ``predict`` are the time
    spent waiting for images and for the network. ``busy`` holds the seconds of work done meanwhile,
    summed over processes and threads: ``read``, ``decode``, ``fit``, ``transfer`` (to a GPU) and
    ``network``. ``account`` is JSON data: versions, model, options and settings.
    """

    found: int
    predicted: int
    reused: int
    failed: int
    resumed: int
    update: dict[str, int] | None
    ignored: FileList
    failures_by_stage: dict[str, int]
    to_review: int
    more_pages: int
    fitted: int
    dark_on_light: int
    faint: int
    notes: tuple[FolderNote, ...]
    seconds: dict[str, float]
    busy: dict[str, float]
    backend: str
    device: str
    exit_code: ExitCode
    account: dict[str, Any]
    first_failures: tuple[FailedRow, ...] = ()

    @cached_property
    def left_out(self) -> dict[str, int]:
        """How many files were left out, by the endings of their names."""
        return count_endings(self.ignored)

    @property
    def images_per_second(self) -> float:
        """Images found, divided by the total seconds of the run."""
        return self.found / self.seconds["total"]

    def counts(self) -> dict[str, Any]:
        """The outcome in a few numbers, as JSON data."""
        return {
            "found": self.found,
            "predicted": self.predicted,
            "reused": self.reused,
            "failed": self.failed,
            "to_review": self.to_review,
            "seconds": round(self.seconds["total"], 3),
            "images_per_second": round(self.images_per_second, 1),
            "exit_code": int(self.exit_code),
        }

    def as_json(self) -> dict[str, Any]:
        """The whole outcome as JSON data."""
        return {
            "found": self.found,
            "predicted": self.predicted,
            "reused": self.reused,
            "failed": self.failed,
            "resumed": self.resumed,
            "update": self.update,
            "ignored": len(self.ignored),
            "left_out": self.left_out,
            "failures_by_stage": self.failures_by_stage,
            "first_failures": [asdict(row) for row in self.first_failures],
            "to_review": self.to_review,
            "more_pages": self.more_pages,
            "fitted": self.fitted,
            "dark_on_light": self.dark_on_light,
            "faint": self.faint,
            "notes": [asdict(note) for note in self.notes],
            "exit_code": int(self.exit_code),
            "backend": self.backend,
            "device": self.device,
            "images_per_second": round(self.images_per_second, 1),
            "seconds": {stage: round(seconds, 4) for stage, seconds in self.seconds.items()},
            "busy": {stage: round(seconds, 4) for stage, seconds in self.busy.items()},
            **self.account,
        }
