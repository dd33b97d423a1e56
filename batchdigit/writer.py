"""The report: its columns, and the formats it is written in.

Every format gets the same cells. A probability is a Python float whose shortest decimal form is
the shortest that identifies the float32 it came from, so text reports and Parquet hold one value.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions, Treatment
from batchdigit.errors import AccountingError
from batchdigit.job import REVIEW_BELOW
from batchdigit.sources.filelist import FileList

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Column = list[Any]
Columns = dict[str, Column]

PARQUET_ROWS_PER_GROUP = 65_536
_EXPLANATION: dict[str, type] = {"polarity": str, "fitted": bool, "ink": float}
_CSV_TRUTH = {True: "true", False: "false", None: None}
ACCOUNT_KEY = "batchdigit.run"


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

    @property
    def columns(self) -> dict[str, type]:
        """The columns in order, with the type of their cells; six are always there."""
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
        """Those of ``probs``, in the order of the classes."""
        names = self.labels or range(self.classes)
        return [f"prob_{name}" for name in names] if self.probs else []


class Tabulator:
    """Turns predictions into rows: one for each file, in the order of the file list.

    Raises AccountingError when a batch does not hold exactly the files that come next.
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
                f"the rows after {self.rows} are not those of the files that come next",
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
        """The columns that predictions fill, for the predicted files only."""
        # numpy prints a float32 in its shortest form; reading that as a double keeps it. That takes
        # half the time of a row, and is done of what is reported only.
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
        """How far the likeliest label is ahead, and whether a person should look."""
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
    """Which predictions a person should look at, bool[B]."""
    crowded = (predictions.treatments & Treatment.CROWDED) > 0
    return (predictions.probs[:, 0] < below) | crowded


def _explained(predictions: Predictions) -> Columns:
    """What was found; ``ink`` is empty where nobody looked for strokes."""
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


class Format(Protocol):
    """Writes a table to a stream."""

    def write(self, columns: Columns) -> None:
        """Append rows, given column by column."""

    def finish(self, account: Mapping[str, Any]) -> None:
        """Write whatever closes the table."""


def open_format(name: str, gzipped: bool, stream: BinaryIO, columns: Mapping[str, type]) -> Format:
    """Give the writer for ``csv``, ``tsv``, ``jsonl`` or ``parquet``."""
    if name == "parquet":
        return _ParquetFormat(stream, columns)
    text = _TextStream(stream, gzipped)
    if name == "jsonl":
        return _JsonLinesFormat(text)
    return _DelimitedFormat(text, columns, "\t" if name == "tsv" else ",")


class _TextStream(io.TextIOWrapper):
    r"""UTF-8 text with ``\n`` line ends over a binary stream, gzipped on request.

    The gzip header holds neither a time nor a name: the same rows give the same bytes.
    """

    def __init__(self, stream: BinaryIO, gzipped: bool) -> None:
        self._gzip = gzip.GzipFile("", "wb", fileobj=stream, mtime=0) if gzipped else None
        super().__init__(self._gzip or stream, encoding="utf-8", newline="")

    def finish(self) -> None:
        """Write everything to the binary stream."""
        self.flush()
        if self._gzip is not None:
            self._gzip.close()


class _DelimitedFormat:
    r"""CSV (RFC 4180 quoting, ``\n`` line ends) and TSV; an empty cell is an empty field."""

    def __init__(self, text: _TextStream, columns: Mapping[str, type], delimiter: str) -> None:
        self._text = text
        self._truths = [name for name, kind in columns.items() if kind is bool]
        self._writer = csv.writer(
            _LineFeeds(text), delimiter=delimiter, lineterminator=_LineFeeds.CRLF
        )
        self._writer.writerow(columns)

    def write(self, columns: Columns) -> None:
        truths = {name: [_CSV_TRUTH[cell] for cell in columns[name]] for name in self._truths}
        self._writer.writerows(zip(*(columns | truths).values(), strict=True))

    def finish(self, account: Mapping[str, Any]) -> None:
        self._text.finish()


class _LineFeeds:
    """Ends each line that ``csv`` writes in LF instead of CR LF.

    ``csv`` is told to end lines in both because, before Python 3.13, it quotes a cell for a CR or
    LF in it only where that is part of the line end.
    """

    CRLF = "\r\n"

    def __init__(self, text: _TextStream) -> None:
        self._text = text

    def write(self, line: str) -> None:
        self._text.write(line.removesuffix(self.CRLF) + "\n")


class _JsonLinesFormat:
    """One JSON object a line with every column; an empty cell is ``null``."""

    def __init__(self, text: _TextStream) -> None:
        self._text = text

    def write(self, columns: Columns) -> None:
        for row in zip(*columns.values(), strict=True):
            cells = dict(zip(columns, row, strict=True))
            self._text.write(json.dumps(cells, ensure_ascii=False) + "\n")

    def finish(self, account: Mapping[str, Any]) -> None:
        self._text.finish()


class _ParquetFormat:
    """Parquet: nullable int64, float32 and string columns, the run's account in its metadata."""

    def __init__(self, stream: BinaryIO, columns: Mapping[str, type]) -> None:
        # Imported here: a run that writes text does without it.
        import pyarrow
        from pyarrow import parquet

        types = {
            str: pyarrow.string(),
            int: pyarrow.int64(),
            float: pyarrow.float32(),
            bool: pyarrow.bool_(),
        }
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._batch_of = pyarrow.RecordBatch.from_pydict
        self._writer = parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._pending: Columns = {name: [] for name in columns}

    def write(self, columns: Columns) -> None:
        for name, column in columns.items():
            self._pending[name] += column
        if len(self._pending["filename"]) >= PARQUET_ROWS_PER_GROUP:
            self._flush()

    def finish(self, account: Mapping[str, Any]) -> None:
        self._flush()
        self._writer.add_key_value_metadata({ACCOUNT_KEY: json.dumps(account)})
        self._writer.close()

    def _flush(self) -> None:
        if self._pending["filename"]:
            self._writer.write_batch(self._batch_of(self._pending, schema=self._schema))
            self._pending = {name: [] for name in self._pending}


class _Sink(io.BufferedIOBase):
    """A stream with a digest of what was written to it, and that can be let go of.

    Writers of every kind write what they still hold when they are collected, and close their
    stream. Once let go of, the stream gets none of it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: BinaryIO | None = stream
        self._bytes = 0
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        if self._stream is not None:
            self._stream.write(view)
            self.digest.update(view)
        self._bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self._bytes

    def let_go(self) -> None:
        self._stream = None


class ReportWriter:
    """A report on its way to a binary stream: predictions in, rows out.

    A context manager. ``finish`` closes the table but not the stream; a report that is left
    without it is incomplete, and nothing more of it reaches the stream.
    """

    def __init__(
        self,
        stream: BinaryIO,
        report_format: tuple[str, bool],
        files: FileList,
        layout: Layout,
    ) -> None:
        self._tabulator = Tabulator(files, layout)
        self._stream = stream
        self._sink = _Sink(stream)
        self._format = open_format(
            *report_format, cast("BinaryIO", self._sink), self._tabulator.columns
        )

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return self._tabulator.rows

    @property
    def digest(self) -> dict[str, Any]:
        """Size in bytes and SHA-256 of what has reached the stream, as JSON data."""
        return {"bytes": self._sink.tell(), "sha256": self._sink.digest.hexdigest()}

    def write(self, predictions: Predictions) -> None:
        """Append one row for each file of a batch. Raises AccountingError or OSError."""
        self._format.write(self._tabulator.tabulate(predictions))

    def finish(self, account: Mapping[str, Any]) -> None:
        """Close the table. ``account`` must be JSON data; formats with metadata keep it."""
        self._format.finish(account)
        self._stream.flush()

    def __enter__(self) -> ReportWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sink.let_go()
