"""Which rows of the last report still hold, and merging them with the new ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions, join_predictions
from batchdigit.resume.last_report import State
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps


@dataclass(frozen=True, eq=False)
class Comparison:
    """How the images found now (N) compare with those of the last report (M).

    Every image found is ``unchanged`` (same name, size and time: its row is reused), ``new``,
    ``changed``, or ``retried`` (its row was an error and is made again). An image that could not be
    read is always retried, because its permissions may have changed, and one in a format that
    nothing decoded, because a decoder may have been installed. ``gone``, int64[G] ascending, are
    the places of the images that are in the last report only. ``index_of`` int64[M] is the new
    index of each reused row, and -1 for others.
    """

    unchanged: int
    new: int
    changed: int
    gone: NDArray[np.int64]
    retried: int
    index_of: NDArray[np.int64]

    def counts(self) -> dict[str, int]:
        """The counts as JSON data."""
        return {
            "unchanged": self.unchanged,
            "new": self.new,
            "changed": self.changed,
            "gone": len(self.gone),
            "retried": self.retried,
        }


def compare(
    state: State, files: FileList, stamps: Stamps, *, retry_errors: bool = False
) -> Comparison:
    """Compare the images found now with those of the last report."""
    before = _places_in(state.files, files)
    known = before >= 0
    same = np.zeros(len(files), dtype=np.bool_)
    same[known] = stamps.at(known).equals(state.stamps.at(before[known]))
    retried = same & known
    doubtful = state.failed if retry_errors else state.unread
    retried[known] &= doubtful[before[known]]
    taken = same & ~retried
    index_of = np.full(len(state.files), -1, dtype=np.int64)
    index_of[before[taken]] = np.flatnonzero(taken)
    return Comparison(
        unchanged=int(taken.sum()),
        new=int((~known).sum()),
        changed=int((known & ~same).sum()),
        gone=np.delete(np.arange(len(state.files)), before[known]),
        retried=int(retried.sum()),
        index_of=index_of,
    )


def gone_files(
    before: FileList, before_in: str, found: FileList, found_in: str
) -> NDArray[np.int64]:
    """The places of those of ``before`` that are not among ``found``, int64[G] ascending.

    Names start from the folders ``before_in`` and ``found_in``. If neither lies in the other, the
    files are others, and none is gone.
    """
    if (path := _path_from(before_in, found_in)) is not None:
        found = _below(path, found)
    elif (path := _path_from(found_in, before_in)) is not None:
        before = _below(path, before)
    else:
        return np.zeros(0, np.int64)
    places = _places_in(before, found)
    return np.delete(np.arange(len(before)), places[places >= 0])


def _path_from(outer: str, inner: str) -> bytes | None:
    """What names in ``inner`` start with if they are given from ``outer``, if it lies in there."""
    start, path = os.path.join(os.fsencode(outer), b""), os.path.join(os.fsencode(inner), b"")
    if not path.startswith(start):
        return None
    return path.removeprefix(start).replace(os.fsencode(os.sep), b"/")


def _below(path: bytes, files: FileList) -> FileList:
    return FileList(path + name for name in files) if path else files


def _places_in(old: FileList, new: FileList) -> NDArray[np.int64]:
    """The position of each of ``new`` in ``old``, int64[N], -1 if absent; both are sorted."""
    places = np.full(len(new), -1, dtype=np.int64)
    olds = iter(enumerate(old))
    place, name = next(olds, (-1, None))
    for index, wanted in enumerate(new):
        while name is not None and name < wanted:
            place, name = next(olds, (-1, None))
        if name is None:
            break
        if name == wanted:
            places[index] = place
    return places


def merge(reused: Iterator[Predictions], predicted: Iterator[Predictions]) -> Iterator[Predictions]:
    """Merge two iterators that are both in the order of the images into one in that order.

    The result has no gap if the two together have none.
    """
    held = _next(reused)
    for part in predicted:
        together = [part]
        while held is not None and held.first <= part.last:
            if held.last < part.first:
                yield held
                held = _next(reused)
            else:
                below, above = held.split(part.last + 1)
                together.append(below)
                held = above if above.rows else _next(reused)
        yield join_predictions(together)
    while held is not None:
        yield held
        held = _next(reused)


def _next(parts: Iterator[Predictions]) -> Predictions | None:
    """The next part that holds a row, or None."""
    return next((part for part in parts if part.rows), None)
