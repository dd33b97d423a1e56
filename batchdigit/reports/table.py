"""The table: which columns it has, and how predictions become its rows.

Every format gets the same cells. A probability is a Python float whose shortest decimal form is
the shortest that identifies its float32, so that text reports and Parquet hold the same value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions, Treatment
from batchdigit.errors import AccountingError
from batchdigit.job import REVIEW_BELOW, Reporting
from batchdigit.reports.formats import Column, Columns
from batchdigit.sources.filelist import FileList

_EXPLANATION: dict[str, type] = {"polarity": str, "fitted": bool, "ink": float}


@dataclass(frozen=True)
class Layout:
    """Which columns a report has.

    ``needs_review`` is true if the confidence is below ``review_below``, or if the network did not
    see everything on the image. ``topk`` above 1 adds ``prediction_2, confidence_2, ...``;
    ``probs`` adds ``prob_0, prob_1, ...``, one for each of the ``classes``; ``explain`` adds
    ``polarity, fitted, ink``. ``labels`` are the names of the classes; without them a prediction is
    the number of its class.
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
        return cls(classes, job.topk, job.probs, job.labels, job.review_below, explain=job.explain)

    @property
    def columns(self) -> dict[str, type]:
        """The columns in order, with the types of their cells; the first six are always there."""
        prediction: type = str if self.labels else int
        columns: dict[str, type] = {
            "filename": str,
            "prediction": prediction,
            "confidence": float,
            "error": str,
            "margin": float,
            "needs_review": bool,
        }
        for place in range(2, self.topk + 1):
            columns |= {f"prediction_{place}": prediction, f"confidence_{place}": float}
        columns |= dict.fromkeys(self.probability_columns, float)
        return columns | (_EXPLANATION if self.explain else {})

    @property
    def probability_columns(self) -> list[str]:
        """The columns that ``probs`` adds, in the order of the classes."""
        names = self.labels or range(self.classes)
        return [f"prob_{name}" for name in names] if self.probs else []


class Tabulator:
    """Turns predictions into rows: one for each image, in the order of the file list.

    Raises AccountingError if a batch does not hold exactly the images that come next.
    """

    def __init__(self, files: FileList, layout: Layout) -> None:
        self.files = files
        self.layout = layout
        self.columns = layout.columns
        self.rows = 0

    def tabulate(self, predictions: Predictions) -> Columns:
        """The rows of one batch, column by column; an empty cell is None."""
        failures = {failure.index: failure.text for failure in predictions.failures}
        places = predictions.indices.tolist()
        indices = sorted([*places, *failures])
        if indices != list(range(self.rows, self.rows + len(indices))):
            raise AccountingError(
                f"the rows after {self.rows} are not those of the images that come next",
                "nothing was published; please report this as a bug",
            )
        self.rows += len(indices)
        cells = self._cells(predictions)
        if failures:
            row_of = {index: row for row, index in enumerate(places)}
            rows = [row_of.get(index) for index in indices]
            cells = {
                name: [None if row is None else column[row] for row in rows]
                for name, column in cells.items()
            }
        cells["filename"] = [self.files.filename(index) for index in indices]
        cells["error"] = [failures.get(index) for index in indices]
        return {name: cells[name] for name in self.columns}

    def _cells(self, predictions: Predictions) -> Columns:
        """The columns that predictions fill, for predicted images only."""
        # numpy prints a float32 in its shortest form, and reading that as a double keeps it. This
        # takes half the time of a row, so it is done only for what is reported.
        reported = (
            predictions.probs if self.layout.probs else predictions.probs[:, : self.layout.topk]
        )
        decimals = [list(map(float, column)) for column in reported.T.astype("U16").tolist()]
        cells: Columns = {}
        for place in range(self.layout.topk):
            suffix = f"_{place + 1}" if place else ""
            cells[f"prediction{suffix}"] = self._name(predictions.labels[:, place].tolist())
            cells[f"confidence{suffix}"] = decimals[place]
        if names := self.layout.probability_columns:
            by_class = [
                dict(zip(row_labels, row_probs, strict=True))
                for row_labels, row_probs in zip(
                    predictions.labels.tolist(), zip(*decimals, strict=True), strict=True
                )
            ]
            for label, name in enumerate(names):
                cells[name] = [row[label] for row in by_class]
        cells |= self._judged(predictions)
        if self.layout.explain:
            cells |= _explained(predictions)
        return cells

    def _judged(self, predictions: Predictions) -> Columns:
        """How far the likeliest label is ahead, and whether a person should look at the image."""
        ahead = predictions.probs[:, 0].copy()
        if predictions.probs.shape[1] > 1:
            ahead -= predictions.probs[:, 1]
        return {
            "margin": list(map(float, ahead.astype("U16").tolist())),
            "needs_review": needs_review(predictions, self.layout.review_below).tolist(),
        }

    def _name(self, labels: list[int]) -> Column:
        names = self.layout.labels
        return [names[label] for label in labels] if names else labels


def needs_review(predictions: Predictions, below: float) -> NDArray[np.bool_]:
    """Which predictions a person should review, bool[B]."""
    crowded = (predictions.treatments & Treatment.CROWDED) > 0
    return (predictions.probs[:, 0] < below) | crowded


def _explained(predictions: Predictions) -> Columns:
    """The columns of ``explain``; ``ink`` is empty if strokes were not looked for."""
    treatments, ink = predictions.treatments, predictions.ink
    polarities = np.where(treatments & Treatment.DARK, "dark on light", "light on dark").tolist()
    looked_at = (~np.isnan(ink)).tolist()
    return {
        "polarity": polarities,
        "fitted": ((treatments & Treatment.FITTED) > 0).tolist(),
        "ink": [
            float(cell) if looked else None
            for cell, looked in zip(ink.astype("U16").tolist(), looked_at, strict=True)
        ],
    }
