"""The formats that a report is written in."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

from batchdigit.reports.table import Columns

PARQUET_ROWS_PER_GROUP = 65_536
_CSV_TRUTH = {True: "true", False: "false", None: None}
ACCOUNT_KEY = "batchdigit.run"


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
