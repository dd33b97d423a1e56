"""What flows through the program: batches of images, and the predictions on them.

All code that makes, splits or joins a :class:`Batch` or :class:`Predictions` is here; no other
module lists their arrays. FACTS is the only list of what is known about an image except its pixels.

B is the batch size, K the number of classes, k the number of labels reported for each image.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntFlag
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchdigit.models.spec import MNIST
from batchdigit.sources.filelist import FileList
from batchdigit.system.stopwatch import add_up


@dataclass(frozen=True)
class Failure:
    """An image that could not be used. It becomes one error row, ``STAGE: MESSAGE``.

    ``more_pages`` says that its file has more pages than the first, which was blank.
    """

    index: int
    stage: str
    message: str
    more_pages: bool = False

    @property
    def text(self) -> str:
        """The ``error`` of the row."""
        rest = "; only the first of several pages was read" if self.more_pages else ""
        return f"{self.stage}: {self.message}{rest}"


class Treatment(IntFlag):
    """What was done to an image between decoding and the network, or seen on it; fits a uint8."""

    AS_IT_IS = 0
    FITTED = 1  # made to look like MNIST's digits
    DARK = 2  # its ink is darker than its background
    CROWDED = 4  # there is more on it than the network saw
    FAINT = 8  # its strokes are darker than any of MNIST's, and were not fitted
    MORE_PAGES = 16  # its file has more pages than the first, which alone was read


class Digit(NamedTuple):
    """An image as the network gets it.

    ``pixels`` uint8[H, W], or [H, W, 3] in colours, are 0 for black to 255 for white strokes.
    ``ink`` is the share of the
    image that strokes cover, 0 to 1, or NaN if strokes were not looked for.
    """

    pixels: NDArray[np.uint8]
    treatment: Treatment = Treatment.AS_IT_IS
    ink: float = float("nan")


class Fact(NamedTuple):
    """Something that is known about each image: its numpy type, and the value for a missing one."""

    dtype: str
    missing: Any


FACTS: dict[str, Fact] = {
    "treatment": Fact("u1", Treatment.AS_IT_IS),
    "ink": Fact("f4", np.nan),
}
"""What is known about each image except its pixels, on its way from the reader to the report.

A fact that is listed here travels through batches, predictions, journals and states without more.
"""


def blank_facts(count: int) -> NDArray[np.void]:
    """A record of missing FACTS for each of ``count`` images, structured[count]."""
    blank = np.array(
        tuple(fact.missing for fact in FACTS.values()),
        dtype=[(name, fact.dtype) for name, fact in FACTS.items()],
    )
    return np.full(count, blank)


def _taken(images: Batch | Predictions, rows: Any) -> dict[str, Any]:
    """The fields of some ``rows`` (a slice, a mask, positions), for ``replace``."""
    return {name: getattr(images, name)[rows] for name in images.PER_IMAGE}


def _joined(parts: Sequence[Batch] | Sequence[Predictions]) -> dict[str, Any]:
    some = [part for part in parts if len(part)] or parts[:1]  # no images have any size
    names = parts[0].PER_IMAGE
    return {name: np.concatenate([getattr(part, name) for part in some]) for name in names}


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive images after reading: those that could be used, and the failures.

    ``indices`` int64[B] are the positions of the images in the file list, ascending. ``images``
    uint8[B, C, H, W] are their pixels, 0 for black to 255 for white strokes. ``facts``
    structured[B] is what else is known about them (see FACTS), by default nothing. B may be 0.
    ``busy`` holds the seconds of work they took, by stage: ``read``, ``decode`` and ``fit``.
    """

    PER_IMAGE: ClassVar = ("indices", "images", "facts")

    indices: NDArray[np.int64]
    images: NDArray[np.uint8]
    facts: NDArray[np.void] = None  # type: ignore[assignment]  # is filled in below
    failures: tuple[Failure, ...] = ()
    busy: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.facts is None:
            object.__setattr__(self, "facts", blank_facts(len(self.indices)))

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def of(cls, images: NDArray[np.uint8]) -> Batch:
        """A batch of ``images`` uint8[B, 1, H, W] that do not come from a source."""
        return cls(np.arange(len(images)), images)

    @classmethod
    def failed(cls, failure: Failure) -> Batch:
        """A batch with one failure and no image."""
        nothing = np.empty((0, *MNIST.shape), np.uint8)
        return cls(np.empty(0, np.int64), nothing, failures=(failure,))

    def parts(self, size: int) -> list[Batch]:
        """The batch in parts, at least one, of at most ``size`` images.

        The first part has the failures and the seconds.
        """
        rows = [slice(start, start + size) for start in range(0, max(len(self), 1), size)]
        first, *rest = (replace(self, **_taken(self, part)) for part in rows)
        return [first, *(replace(part, failures=(), busy={}) for part in rest)]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The outcome of one batch: B images with their k likeliest labels, and the failures.

    ``indices`` int64[B] are ascending. ``labels`` int64[B, k] and ``probs`` float32[B, k] are
    sorted by falling probability (the softmax over all K classes), and are in main memory. k is at
    least 2 if K is. ``facts`` structured[B] are those of the batch. ``files``, if set, resolves the
    indices. Failures are in the order of the images too. ``busy`` holds the seconds of work, by
    stage: those of the batch, ``transfer`` to a GPU, and ``network``.
    """

    PER_IMAGE: ClassVar = ("indices", "labels", "probs", "facts")

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    probs: NDArray[np.float32]
    facts: NDArray[np.void] = None  # type: ignore[assignment]  # is filled in below
    failures: tuple[Failure, ...] = ()
    files: FileList | None = None
    busy: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.facts is None:
            object.__setattr__(self, "facts", blank_facts(len(self.indices)))

    @classmethod
    def of(
        cls,
        batch: Batch,
        labels: NDArray[np.int64],
        probs: NDArray[np.float32],
        busy: Mapping[str, float],
    ) -> Predictions:
        """The outcome of ``batch``; ``busy`` holds the seconds that the network took."""
        return cls(
            batch.indices,
            labels,
            probs,
            facts=batch.facts,
            failures=batch.failures,
            busy={**batch.busy, **busy},
        )

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def treatments(self) -> NDArray[np.uint8]:
        """The :class:`Treatment` of each image, uint8[B]."""
        treatments: NDArray[np.uint8] = self.facts["treatment"]
        return treatments

    @property
    def more_pages(self) -> int:
        """Of how many files only the first of several pages was read."""
        paged = np.count_nonzero(self.treatments & Treatment.MORE_PAGES)
        return int(paged) + sum(failure.more_pages for failure in self.failures)

    @property
    def ink(self) -> NDArray[np.float32]:
        """The share of each image that strokes cover, float32[B], NaN if not looked for."""
        ink: NDArray[np.float32] = self.facts["ink"]
        return ink

    @property
    def rows(self) -> int:
        """The number of images, failures included."""
        return len(self.indices) + len(self.failures)

    @property
    def first(self) -> int:
        """The lowest index of an image, failures included."""
        return min(self._at(0))

    @property
    def last(self) -> int:
        """The highest index of an image, failures included."""
        return max(self._at(-1))

    def _at(self, end: int) -> list[int]:
        indices = [int(self.indices[end])] if len(self.indices) else []
        return indices + ([self.failures[end].index] if self.failures else [])

    @property
    def all_indices(self) -> NDArray[np.int64]:
        """The indices of all images, failures included, int64, ascending."""
        failed = np.array([failure.index for failure in self.failures], dtype=np.int64)
        return np.sort(np.concatenate([self.indices, failed]))

    def split(self, index: int) -> tuple[Predictions, Predictions]:
        """The outcome of images below ``index``, and that of the others."""
        row = int(self.indices.searchsorted(index))
        failed = bisect.bisect_left(self.failures, index, key=lambda failure: failure.index)
        below, others = slice(row), slice(row, None)
        return (
            replace(self, **_taken(self, below), failures=self.failures[:failed]),
            replace(self, **_taken(self, others), failures=self.failures[failed:]),
        )

    def renumbered(self, index_of: NDArray[np.int64]) -> Predictions:
        """The same with new indices: int64 by present index; -1 leaves an image out."""
        kept = _taken(self, index_of[self.indices] >= 0)
        return replace(
            self,
            **kept | {"indices": index_of[kept["indices"]]},
            failures=tuple(
                replace(failure, index=int(index_of[failure.index]))
                for failure in self.failures
                if index_of[failure.index] >= 0
            ),
        )

    @property
    def filenames(self) -> list[str]:
        """The report's ``filename`` of each image, in the order of ``indices``."""
        return [self._named.filename(index) for index in self.indices.tolist()]

    def filename_of(self, failure: Failure) -> str:
        """The report's ``filename`` of an image that failed."""
        return self._named.filename(failure.index)

    @property
    def _named(self) -> FileList:
        if self.files is None:
            raise ValueError("these predictions came without their file list")
        return self.files

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """What a journal keeps: an array for each field, with the failures as bytes of JSON."""
        failures = [list(asdict(failure).values()) for failure in self.failures]
        return {
            **_taken(self, slice(None)),
            "labels": self.labels.astype(np.int16),  # a model has at most 1000 classes
            "failures": np.frombuffer(json.dumps(failures).encode(), dtype=np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Predictions:
        """Undo :meth:`as_arrays`. Raises KeyError, TypeError or ValueError for other arrays."""
        columns: dict[str, Any] = {name: arrays[name] for name in cls.PER_IMAGE}
        failures = json.loads(arrays["failures"].tobytes())
        if columns["facts"].dtype != blank_facts(0).dtype:
            raise ValueError("other facts than those of this version")
        return cls(
            **columns | {"labels": columns["labels"].astype(np.int64)},
            failures=tuple(Failure(*failure) for failure in failures),
        )


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions whose images may alternate; the result is in the order of the images."""
    if len(parts) == 1:
        return parts[0]
    joined = Predictions(**_joined(parts), busy=add_up(part.busy for part in parts))
    failures = [failure for part in parts for failure in part.failures]
    return replace(
        joined,
        **_taken(joined, np.argsort(joined.indices, kind="stable")),
        failures=tuple(sorted(failures, key=lambda failure: failure.index)),
    )


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Join consecutive batches."""
    return Batch(
        **_joined(batches),
        failures=tuple(failure for batch in batches for failure in batch.failures),
        busy=add_up(batch.busy for batch in batches),
    )
