"""What flows through the program: batches of images, and what became of them.

:class:`Batch` and :class:`Predictions` know how to be made, taken apart and joined; nothing else
lists their arrays. What is known of each image beside its pixels is listed once, in FACTS.

B batch, K classes, k labels reported for each image.
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
    """An image that could not be used; becomes one error row ``STAGE: MESSAGE``."""

    index: int
    stage: str
    message: str

    @property
    def text(self) -> str:
        """The row's ``error``."""
        return f"{self.stage}: {self.message}"


class Treatment(IntFlag):
    """What became of an image between decoding and the network; fits a uint8."""

    AS_IT_IS = 0
    FITTED = 1  # brought to what MNIST's digits look like
    DARK = 2  # its ink is darker than its background
    CROWDED = 4  # there is more on it than what the network got to see


class Digit(NamedTuple):
    """An image as the network gets it.

    ``pixels`` uint8[28, 28], 0 black to 255 white strokes; ``ink`` is the share of the picture
    that strokes cover, 0 to 1, NaN where nobody looked for strokes.
    """

    pixels: NDArray[np.uint8]
    treatment: Treatment = Treatment.AS_IT_IS
    ink: float = float("nan")


class Fact(NamedTuple):
    """Something that is known of each image: the type of its numbers, and what stands for none."""

    dtype: str
    missing: Any


FACTS: dict[str, Fact] = {
    "treatment": Fact("u1", Treatment.AS_IT_IS),
    "ink": Fact("f4", np.nan),
}
"""What is known of each image beside its pixels, as it travels from the reader to the report.

A fact that has a line here comes through batches, predictions, journals and states by itself.
"""


def blank_facts(count: int) -> NDArray[np.void]:
    """A record for each of ``count`` images, structured[count] with the FACTS, all missing."""
    blank = np.array(
        tuple(fact.missing for fact in FACTS.values()),
        dtype=[(name, fact.dtype) for name, fact in FACTS.items()],
    )
    return np.full(count, blank)


def _taken(images: Batch | Predictions, rows: Any) -> dict[str, Any]:
    """The fields of some ``rows`` (a slice, a mask, positions), for ``replace``."""
    return {name: getattr(images, name)[rows] for name in images.PER_IMAGE}


def _joined(parts: Sequence[Batch] | Sequence[Predictions]) -> dict[str, Any]:
    return {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in parts[0].PER_IMAGE
    }


@dataclass(frozen=True)
class Batch:
    """Consecutive files after reading: the images that could be used and the failures.

    ``indices`` int64[B] are the positions of the images in the file list, ascending; ``images``
    uint8[B, 1, 28, 28] are their pixels, 0 black to 255 white strokes; ``facts`` structured[B] is
    what else is known of them (see FACTS; left out, nothing is). B may be 0. ``busy`` are the
    seconds of work in them, by stage: ``read``, ``decode`` and ``fit``.

    Arrays of numpy, not tensors: between processes they travel as plain bytes through the pipe.
    torch would put tensors into shared memory, which is 64 MB in a container and takes a file
    descriptor each; for a batch of digits, a fraction of a megabyte, that is no faster.
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
        """A batch of ``images`` uint8[B, 1, H, W] that come from no files."""
        return cls(np.arange(len(images)), images)

    @classmethod
    def failed(cls, failure: Failure) -> Batch:
        """What comes of a file that could not be used: no image."""
        nothing = np.empty((0, *MNIST.shape), np.uint8)
        return cls(np.empty(0, np.int64), nothing, failures=(failure,))

    def parts(self, size: int) -> list[Batch]:
        """The same in parts of at most ``size`` images, at least one.

        Failures and seconds are in the first.
        """
        rows = [slice(start, start + size) for start in range(0, max(len(self), 1), size)]
        first, *rest = (replace(self, **_taken(self, part)) for part in rows)
        return [first, *(replace(part, failures=(), busy={}) for part in rest)]


@dataclass(frozen=True)
class Predictions:
    """What became of one batch: B images with their k likeliest labels, and the failures.

    ``indices`` int64[B] ascending, ``labels`` int64[B, k] and ``probs`` float32[B, k] by falling
    probability (the softmax over all K classes), in main memory; k is at least 2 where K is.
    ``facts`` structured[B] are those of the batch. ``files``, where set, resolves the indices.
    Failures are in the order of the files too. ``busy`` are the seconds of work in all this, by
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
        """What became of ``batch``; ``busy`` are the seconds that the network took."""
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
        """What became of each image before the network, uint8[B] (see :class:`Treatment`)."""
        treatments: NDArray[np.uint8] = self.facts["treatment"]
        return treatments

    @property
    def ink(self) -> NDArray[np.float32]:
        """The share of each picture that strokes cover, float32[B], NaN where nobody looked."""
        ink: NDArray[np.float32] = self.facts["ink"]
        return ink

    @property
    def rows(self) -> int:
        """How many files this is about, those that failed among them."""
        return len(self.indices) + len(self.failures)

    @property
    def first(self) -> int:
        """The lowest index of a file that this is about."""
        return min(self._at(0))

    @property
    def last(self) -> int:
        """The highest index of a file that this is about."""
        return max(self._at(-1))

    def _at(self, end: int) -> list[int]:
        indices = [int(self.indices[end])] if len(self.indices) else []
        return indices + ([self.failures[end].index] if self.failures else [])

    @property
    def all_indices(self) -> NDArray[np.int64]:
        """The indices of all files that this is about, failures included, int64, ascending."""
        failed = np.array([failure.index for failure in self.failures], dtype=np.int64)
        return np.sort(np.concatenate([self.indices, failed]))

    def split(self, index: int) -> tuple[Predictions, Predictions]:
        """What this says of files below ``index``, and of the others."""
        row = int(self.indices.searchsorted(index))
        failed = bisect.bisect_left(self.failures, index, key=lambda failure: failure.index)
        below, others = slice(row), slice(row, None)
        return (
            replace(self, **_taken(self, below), failures=self.failures[:failed]),
            replace(self, **_taken(self, others), failures=self.failures[failed:]),
        )

    def renumbered(self, index_of: NDArray[np.int64]) -> Predictions:
        """The same of files with other indices: int64 by their present ones, -1 leaves one out."""
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
        if self.files is None:
            raise ValueError("these predictions came without their file list")
        return [self.files.filename(index) for index in self.indices.tolist()]

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """All that a journal keeps: an array for each field, the failures as bytes of JSON."""
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
        return cls(
            **columns | {"labels": columns["labels"].astype(np.int64)},
            failures=tuple(Failure(*failure) for failure in failures),
        )


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """One for several that together hold what became of some files, in the order of the files."""
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
    """One for several that follow one another in the order of the files."""
    return Batch(
        **_joined(batches),
        failures=tuple(failure for batch in batches for failure in batch.failures),
        busy=add_up(batch.busy for batch in batches),
    )
