"""The formats of reports.

To add one, write a class that fulfils :class:`Format` and give it a line in FORMATS.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

from batchdigit.errors import UsageError
from batchdigit.places import STDOUT

Cells = list[Any]
Columns = dict[str, Cells]

PARQUET_ROWS_PER_GROUP = 65_536
_CSV_TRUTH = {True: "true", False: "false", None: None}
ACCOUNT_KEY = "batchdigit.run"


class Format(Protocol):
    """Writes a table to a stream as ``form`` says; ``columns`` gives the types of the cells.

    A format that is ``binary`` is compressed by itself, and no terminal can show it. ``packages``
    are those without which the rest of a run would do.
    """

    binary: ClassVar[bool]
    packages: ClassVar[tuple[str, ...]]

    def __init__(
        self, stream: BinaryIO, form: ReportFormat, columns: Mapping[str, type], /
    ) -> None: ...

    def write(self, columns: Columns) -> None:
        """Append rows, which are given column by column."""

    def finish(self, account: Mapping[str, Any]) -> None:
        """Write whatever closes the table."""


@dataclass(frozen=True)
class ReportFormat:
    """The name of a format (a key of FORMATS), and whether the report is gzipped.

    ``bom`` lets text begin with the byte order mark of UTF-8, for tables that Excel opens. Raises
    UsageError for a format that does not exist, if both would compress, and for a mark in a format
    that has none.
    """

    name: str
    gzipped: bool = False
    bom: bool = False

    def __post_init__(self) -> None:
        if self.name not in FORMATS:
            raise UsageError(
                f"--format {self.name!r} is unknown", f"choose from {', '.join(FORMATS)}"
            )
        if self.gzipped and self.binary:
            raise UsageError(
                f"a {self.name} report is compressed already", "leave .gz off its name"
            )

        if self.bom and not issubclass(FORMATS[self.name], _CsvFormat):
            raise UsageError(
                f"--bom is for csv and tsv, which Excel opens, and not for {self.name}",
                "leave it off",
            )

    @property
    def binary(self) -> bool:
        """Whether it is compressed by itself, and no terminal can show it."""
        return FORMATS[self.name].binary

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that it needs, apart from those of every run."""
        return FORMATS[self.name].packages

    def open(self, stream: BinaryIO, columns: Mapping[str, type]) -> Format:
        """Start a table with these columns on ``stream``."""
        return FORMATS[self.name](stream, self, columns)


def choose_format(out: Path, name: str | None, *, bom: bool = False) -> ReportFormat:
    """The format called ``name``, or if that is None, the one that the extension of ``out`` names.

    ``.gz`` after the extension asks for gzip. Standard output is CSV unless ``name`` says
    otherwise. Raises UsageError for a folder, and where :class:`ReportFormat` does.
    """
    file_name = out.name.lower()
    gzipped = file_name.endswith(".gz")
    suffix = Path(file_name.removesuffix(".gz")).suffix.removeprefix(".")
    if out == STDOUT:
        suffix, gzipped = "csv", False
    if name is None and suffix not in FORMATS:
        if out.is_dir():
            raise UsageError(f"{out} is a folder", f"name a file in it: {out / 'preds.csv'}")
        raise UsageError(
            f"{out.name!r} does not say which format to write",
            f"end it in .{', .'.join(FORMATS)} or give --format",
        )
    return ReportFormat(name or suffix, gzipped, bom)


class _TextStream(io.TextIOWrapper):
    r"""UTF-8 text with ``\n`` line ends on a binary stream, gzipped on request.

    The gzip header holds neither a time nor a name, so that the same rows give the same bytes.
    """

    def __init__(self, stream: BinaryIO, form: ReportFormat) -> None:
        self._gzip = None
        if form.gzipped:
            import gzip

            self._gzip = gzip.GzipFile("", "wb", fileobj=stream, mtime=0)
        encoding = "utf-8-sig" if form.bom else "utf-8"
        super().__init__(self._gzip or stream, encoding=encoding, newline="")

    def finish(self) -> None:
        """Write everything to the binary stream."""
        self.flush()
        if self._gzip is not None:
            self._gzip.close()


class _CsvFormat:
    r"""CSV (RFC 4180 quoting, ``\n`` line ends); an empty cell is an empty field."""

    binary: ClassVar = False
    packages: ClassVar[tuple[str, ...]] = ()
    delimiter = ","

    def __init__(self, stream: BinaryIO, form: ReportFormat, columns: Mapping[str, type]) -> None:
        import csv

        self._text = _TextStream(stream, form)
        self._truths = [name for name, kind in columns.items() if kind is bool]
        lines = _LineFeeds(self._text, self.delimiter)
        self._writer = csv.writer(lines, delimiter=self.delimiter, lineterminator=lines.line_end)
        self._writer.writerow(columns)

    def write(self, columns: Columns) -> None:
        truths = {name: [_CSV_TRUTH[cell] for cell in columns[name]] for name in self._truths}
        self._writer.writerows(zip(*(columns | truths).values(), strict=True))

    def finish(self, account: Mapping[str, Any]) -> None:
        self._text.finish()


class _TsvFormat(_CsvFormat):
    """The same as CSV, but with tabs."""

    delimiter = "\t"


class _LineFeeds:
    """Ends each line that ``csv`` writes with LF instead of ``line_end``.

    ``csv`` quotes a cell that holds a character of the line end that it is told to use. Among those
    are CR and LF, and what some programs take for a delimiter: where it stood outside of quotes,
    what follows would be a cell of its own there, perhaps a formula.
    """

    def __init__(self, text: _TextStream, delimiter: str) -> None:
        self._text = text
        # Since Python 3.13 the delimiter itself, which is quoted anyway, may not be among them.
        self.line_end = "\r\n,;\t|".replace(delimiter, "")

    def write(self, line: str) -> None:
        self._text.write(line.removesuffix(self.line_end) + "\n")


class _JsonLinesFormat:
    """One JSON object a line with every column; an empty cell is ``null``."""

    binary: ClassVar = False
    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(self, stream: BinaryIO, form: ReportFormat, columns: Mapping[str, type]) -> None:
        self._text = _TextStream(stream, form)

    def write(self, columns: Columns) -> None:
        for row in zip(*columns.values(), strict=True):
            cells = dict(zip(columns, row, strict=True))
            self._text.write(json.dumps(cells, ensure_ascii=False) + "\n")

    def finish(self, account: Mapping[str, Any]) -> None:
        self._text.finish()


class _ParquetFormat:
    """Parquet: nullable int64, float32, string and bool columns; the account is in its metadata."""

    binary: ClassVar = True
    packages: ClassVar[tuple[str, ...]] = ("pyarrow",)

    def __init__(self, stream: BinaryIO, _form: ReportFormat, columns: Mapping[str, type]) -> None:
        # Imported here because a run that writes text does not need it.
        import pyarrow
        from pyarrow import parquet

        types = {
            str: pyarrow.string(),
            int: pyarrow.int64(),
            float: pyarrow.float32(),
            bool: pyarrow.bool_(),
        }
        self._schema = pyarrow.schema(
            [(name, types[kind]) for name, kind in columns.items()],
            metadata={"pandas": json.dumps(_for_pandas(columns))},
        )
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


def _for_pandas(columns: Mapping[str, type]) -> dict[str, Any]:
    """What tells pandas to keep empty cells out of floating point and text out of objects.

    Written here because pandas takes long to import. (pandas, "Storing pandas DataFrame objects in
    Apache Parquet format".)
    """
    types = {
        str: ("unicode", "string"),
        int: ("int64", "Int64"),
        float: ("float32", "float32"),
        bool: ("bool", "boolean"),
    }
    return {
        "index_columns": [],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": types[kind][0],
                "numpy_type": types[kind][1],
                "metadata": None,
            }
            for name, kind in columns.items()
        ],
        "pandas_version": "2.2.0",  # the oldest that reads it so
    }


FORMATS: dict[str, type[Format]] = {
    "csv": _CsvFormat,
    "tsv": _TsvFormat,
    "parquet": _ParquetFormat,
    "jsonl": _JsonLinesFormat,
}
