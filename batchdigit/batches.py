"""What flows through the program: batches of images, and what became of them.

B batch, K classes, k labels reported for each image.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Batch:
    """Consecutive files after reading: the images that could be used and the failures.

    ``indices`` int64[B] position of each image in the file list, ascending; ``images``
    uint8[B, 1, 28, 28], 0 black to 255 white strokes. B may be 0. ``treatments`` uint8[B] (see
    :class:`Treatment`) and ``ink`` float32[B] say how they were made. ``busy`` are the seconds of
    work in them, by stage: ``read``, ``decode`` and ``fit``.

    Arrays of numpy, not tensors: between processes they travel as plain bytes through the pipe.
    torch would put tensors into shared memory, which is 64 MB in a container and takes a file
    descriptor each; for a batch of digits, a fraction of a megabyte, that is no faster.
    """

    indices: NDArray[np.int64]
    images: NDArray[np.uint8]
    treatments: NDArray[np.uint8]
    ink: NDArray[np.float32]
    failures: tuple[Failure, ...] = ()
    busy: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def parts(self, size: int) -> list[Batch]:
        """The same in parts of at most ``size`` images, at least one.

        Failures and seconds are in the first.
        """
        return [
            Batch(
                self.indices[start : start + size],
                self.images[start : start + size],
                self.treatments[start : start + size],
                self.ink[start : start + size],
                () if start else self.failures,
                {} if start else self.busy,
            )
            for start in range(0, max(len(self), 1), size)
        ]


@dataclass(frozen=True)
class Predictions:
    """What became of one batch: B images with their k likeliest labels, and the failures.

    ``indices`` int64[B] ascending, ``labels`` int64[B, k] and ``probs`` float32[B, k] by falling
    probability (the softmax over all K classes), in main memory; k is at least 2 where K is.
    ``treatments`` uint8[B] (see :class:`Treatment`) and ``ink`` float32[B], the share of the
    picture that strokes cover, say what the network got to see. ``files``, where set, resolves
    the indices. Failures are in the order of the files too. ``busy`` are the seconds of work in
    all this, by stage: those of the batch, ``transfer`` to a GPU, and ``network``.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    probs: NDArray[np.float32]
    treatments: NDArray[np.uint8]
    ink: NDArray[np.float32]
    failures: tuple[Failure, ...] = ()
    files: FileList | None = None
    busy: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

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

    def split(self, index: int) -> tuple[Predictions, Predictions]:
        """What this says of files below ``index``, and of the others."""
        row = int(self.indices.searchsorted(index))
        failed = bisect.bisect_left(self.failures, index, key=lambda failure: failure.index)
        return (
            replace(
                self,
                indices=self.indices[:row],
                labels=self.labels[:row],
                probs=self.probs[:row],
                treatments=self.treatments[:row],
                ink=self.ink[:row],
                failures=self.failures[:failed],
            ),
            replace(
                self,
                indices=self.indices[row:],
                labels=self.labels[row:],
                probs=self.probs[row:],
                treatments=self.treatments[row:],
                ink=self.ink[row:],
                failures=self.failures[failed:],
            ),
        )

    def renumbered(self, index_of: NDArray[np.int64]) -> Predictions:
        """The same of files with other indices: int64 by their present ones, -1 leaves one out."""
        indices = index_of[self.indices]
        kept = indices >= 0
        return replace(
            self,
            indices=indices[kept],
            labels=self.labels[kept],
            probs=self.probs[kept],
            treatments=self.treatments[kept],
            ink=self.ink[kept],
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


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """One for several that together hold what became of some files, in the order of the files."""
    if len(parts) == 1:
        return parts[0]
    indices = np.concatenate([part.indices for part in parts])
    order = np.argsort(indices, kind="stable")
    return Predictions(
        indices=indices[order],
        labels=np.concatenate([part.labels for part in parts])[order],
        probs=np.concatenate([part.probs for part in parts])[order],
        treatments=np.concatenate([part.treatments for part in parts])[order],
        ink=np.concatenate([part.ink for part in parts])[order],
        failures=tuple(
            sorted(
                (failure for part in parts for failure in part.failures),
                key=lambda failure: failure.index,
            )
        ),
        busy=add_up(part.busy for part in parts),
    )


def join_batches(batches: Sequence[Batch]) -> Batch:
    """One for several that follow one another in the order of the files."""
    return Batch(
        np.concatenate([batch.indices for batch in batches]),
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.treatments for batch in batches]),
        np.concatenate([batch.ink for batch in batches]),
        tuple(failure for batch in batches for failure in batch.failures),
        add_up(batch.busy for batch in batches),
    )
