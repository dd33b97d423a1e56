"""The table: which columns it has, and how predictions become its rows.

Every format gets the same cells. A probability is a Python float whose shortest decimal form is
the shortest that identifies the float32 it came from, so text reports and Parquet hold one value.

To add a column, give :func:`_columns` a line for it, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions, Treatment
from batchdigit.errors import AccountingError
from batchdigit.job import REVIEW_BELOW, Reporting
from batchdigit.labels import without_formulas
from batchdigit.reports.formats import Cells, Columns
from batchdigit.sources.filelist import FileList


class Column(NamedTuple):
    """A column: the type of its cells, and what fills those of the images that were predicted.

    The cell of an error row is empty. Without ``cells`` the column is filled for every row, from
    what is known of the image besides its prediction.
    """

    name: str
    kind: type
    cells: Callable[[Predictions], Cells] | None = None


@dataclass(frozen=True)
class Layout:
    """Which columns a report has.

    ``needs_review`` is true of a row with a confidence below ``review_below``, and where the
    network did not get to see all that there is. ``topk`` above 1 adds ``prediction_2,
    confidence_2, ...``; ``probs`` adds ``prob_0, prob_1, ...``, one for each of the ``classes``;
    ``explain`` adds ``polarity, fitted, ink``. ``labels`` are the names of the classes; without
    them a prediction is the number of its class.
    """

    classes: int
    topk: int = 1
    probs: bool = False
    labels: tuple[str, ...] = ()
    review_below: float = REVIEW_BELOW
    explain: bool = False

    @classmethod
    def of(cls, job: Reporting, classes: int) -> Layout:
        """The columns that a job asks for, with a model of so many ``classes``."""
        return cls(classes, job.topk, job.probs, job.labels, job.review_below, job.explain)

    @cached_property
    def table(self) -> tuple[Column, ...]:
        """The columns in order."""
        return tuple(_columns(self))

    @property
    def columns(self) -> dict[str, type]:
        """The columns in order, with the types of their cells; the first six are always there."""
        return {column.name: column.kind for column in self.table}


def _columns(layout: Layout) -> Iterator[Column]:
    kind: type = str if layout.labels else int
    label = partial(_label, layout.labels)
    yield Column("filename", str)
    yield Column("prediction", kind, partial(label, place=0))
    yield Column("confidence", float, partial(_confidence, place=0))
    yield Column("error", str)
    yield Column("margin", float, _margin)
    yield Column("needs_review", bool, lambda p: needs_review(p, layout.review_below).tolist())
    for place in range(1, layout.topk):
        yield Column(f"prediction_{place + 1}", kind, partial(label, place=place))
        yield Column(f"confidence_{place + 1}", float, partial(_confidence, place=place))
    if layout.probs:
        for number, name in enumerate(layout.labels or range(layout.classes)):
            yield Column(f"prob_{name}", float, partial(_probability, label=number))
    if layout.explain:
        yield Column("polarity", str, _polarity)
        yield Column("fitted", bool, lambda p: ((p.treatments & Treatment.FITTED) > 0).tolist())
        yield Column("ink", float, _ink)


class Tabulator:
    """Turns predictions into rows: one for each image, in the order of the names.

    Raises AccountingError when a batch does not hold exactly the images that come next.
    """

    def __init__(self, files: FileList, layout: Layout) -> None:
        self.files = files
        self.columns = layout.columns
        self.rows = 0
        self._table = layout.table

    def tabulate(self, predictions: Predictions) -> Columns:
        """The rows of one batch, column by column; an empty cell is None."""
        failures = {
            failure.index: without_formulas(failure.text) for failure in predictions.failures
        }
        places = predictions.indices.tolist()
        indices = sorted([*places, *failures])
        if indices != list(range(self.rows, self.rows + len(indices))):
            raise AccountingError(
                f"the rows after {self.rows} are not those of the files that come next",
                "nothing was published; please report this as a bug",
            )
        self.rows += len(indices)
        whole: Columns = {
            "filename": [self.files.filename(index) for index in indices],
            "error": [failures.get(index) for index in indices],
        }
        row_of = {index: row for row, index in enumerate(places)} if failures else {}
        rows = [row_of.get(index) for index in indices] if failures else []
        for name, _, cells in self._table:
            if cells is not None:
                filled = cells(predictions)
                if failures:
                    filled = [None if row is None else filled[row] for row in rows]
                whole[name] = filled
        return {name: whole[name] for name in self.columns}


def _decimals(numbers: NDArray[np.float32]) -> list[Any]:
    """The numbers as Python floats in their shortest form.

    numpy prints a float32 in its shortest form, and reading that as a double keeps it. This takes
    half the time that a row takes, so it is done only for columns that are reported.
    """
    return list(map(float, numbers.astype("U16").tolist()))


def _label(names: tuple[str, ...], predictions: Predictions, *, place: int) -> Cells:
    labels: list[int] = predictions.labels[:, place].tolist()
    return [names[label] for label in labels] if names else labels


def _confidence(predictions: Predictions, *, place: int) -> Cells:
    return _decimals(predictions.probs[:, place])


def _probability(predictions: Predictions, *, label: int) -> Cells:
    """The probability of one label; all labels are among those of each image."""
    rows, places = np.nonzero(predictions.labels == label)
    return _decimals(predictions.probs[rows, places])


def _margin(predictions: Predictions) -> Cells:
    """How far the likeliest label is ahead of the next one."""
    ahead = predictions.probs[:, 0].copy()
    if predictions.probs.shape[1] > 1:
        ahead -= predictions.probs[:, 1]
    return _decimals(ahead)


def needs_review(predictions: Predictions, below: float) -> NDArray[np.bool_]:
    """Which predictions a person should review, bool[B]."""
    unseen = (predictions.treatments & (Treatment.CROWDED | Treatment.MORE_PAGES)) > 0
    return (predictions.probs[:, 0] < below) | unseen


def _polarity(predictions: Predictions) -> Cells:
    dark = predictions.treatments & Treatment.DARK
    polarities: list[str] = np.where(dark, "dark on light", "light on dark").tolist()
    return polarities


def _ink(predictions: Predictions) -> Cells:
    """The share of each picture that strokes cover; empty if strokes were not looked for."""
    return [None if np.isnan(share) else share for share in _decimals(predictions.ink)]
