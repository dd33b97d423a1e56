"""The report as a DataFrame: made of the rows of a run, or read from a file."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from batchdigit.errors import SourceError, remedy_for
from batchdigit.places import MAX_ACCOUNT, account_path
from batchdigit.reports.formats import Columns
from batchdigit.reports.recognise import COLUMNS, GZIP, PARQUET
from batchdigit.reports.table import Layout
from batchdigit.system.imports import loading
from batchdigit.system.json_objects import load_json
from batchdigit.system.paths import as_path
from batchdigit.system.regular import NotRegularError, open_regular, read_regular
from batchdigit.system.words import counted

if TYPE_CHECKING:
    import pandas as pd

    from batchdigit.system.paths import AnyPath

_LOG = logging.getLogger(__name__)
_TYPES = {str: "string", int: "Int64", float: "float32", bool: "boolean"}
_KINDS = Layout(classes=1, topk=2, probs=True, explain=True).columns
_EMPTY_IN_ERRORS = {"prediction", "confidence", "margin", "needs_review"}
_BYTES_AT_ONCE = 8 << 20
_NUMBER = re.compile("0|[1-9][0-9]*")


class _NoReportError(ValueError):
    """A file that is no report, or not the whole of one."""


def data_frame(parts: Sequence[Columns], columns: Mapping[str, type | None]) -> pd.DataFrame:
    """The rows of ``parts``, one below the other; ``columns`` gives the types of the cells.

    pandas looks itself what the cells of a column are whose type is None.
    """
    # Imported here because streaming does not need it.
    import pandas as pd

    table: pd.DataFrame = pd.DataFrame(
        {
            name: pd.Series(
                [cell for part in parts for cell in part[name]],
                dtype=None if kind is None else _TYPES[kind],
            )
            for name, kind in columns.items()
        }
    )
    return table


def read_report(path: AnyPath) -> pd.DataFrame:
    """The report in the file ``path`` as the DataFrame that ``predict`` would have given.

    Its contents tell the format: CSV, TSV or JSON Lines, gzipped or not, or Parquet. The columns
    are ``filename`` (string), ``prediction`` (Int64, or string if the run had labels),
    ``confidence`` (float32), ``error`` (string), ``margin`` (float32), ``needs_review`` (boolean),
    and those that options added. The predictions of a CSV or TSV report are text if the account of
    the run beside it says that there were labels; without that account, if one of them is no
    number. Columns that somebody else has added have the types that pandas sees in them.

    Raises SourceError if the file cannot be read, or is not a whole report. Logs a warning if it
    has more or fewer rows than the account of the run beside it says.
    """
    report = as_path("the report", path)
    with loading("pandas", "pandas pyarrow"):
        import pandas as pd  # noqa: F401
    try:
        descriptor, opened = open_regular(report)
        with open(descriptor, "rb") as file:
            account = _account(report)
            table = _read(file, report, account)
    except NotRegularError as error:
        raise SourceError(
            f"the report {report} is {error.strerror}", "give the file of a report"
        ) from error
    except (EOFError, ValueError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise SourceError(
                f"cannot read the report {report}: {error.strerror}",
                remedy_for(error, "give a report that batchdigit run --out has written"),
            ) from error
        raise SourceError(
            f"{report} is not a whole report: {error}",
            "give a report that batchdigit run --out has written, or write it again",
        ) from error
    _check_rows(report, len(table), account, opened)
    return table


def _read(file: BinaryIO, path: Path, account: Any) -> pd.DataFrame:
    start = file.read(4)
    file.seek(0)
    if start == PARQUET:
        table = _parquet(file)
    else:
        gzipped = start.startswith(GZIP)
        text: Any = gzip.open(file) if gzipped else file  # noqa: SIM115  (the file is closed)
        first = text.peek(1)[:1]
        if first and not gzipped and not _ends_in_a_line_end(file):
            raise _NoReportError("it is cut off in the middle of a line")
        has_labels = partial(_has_labels, file, account)
        if first == b"{" or (not first and ".jsonl" in path.suffixes):
            table = _json_lines(text, has_labels)
        else:
            table = _csv(text, has_labels)
    _check_columns(list(table.columns))
    failed = table["error"].notna()
    for name in _EMPTY_IN_ERRORS & {*table.columns}:
        if (table[name].isna() != failed).any():
            raise _NoReportError("a row has neither all of a prediction nor only an error")
    return table


def _ends_in_a_line_end(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    end = file.read(1)
    file.seek(0)
    return end == b"\n"


def _check_columns(names: list[str]) -> None:
    if tuple(names[: len(COLUMNS)]) != COLUMNS:
        raise _NoReportError(f"its columns are not {', '.join(COLUMNS)}, ...")


def _kind(column: str) -> type | None:
    """The type of the cells of a column, as if there were no labels; None for one of others."""
    if column.startswith("prob_"):
        return float
    return _KINDS.get(re.sub(r"_[0-9]+$", "_2", column))


def _parquet(file: BinaryIO) -> pd.DataFrame:
    import pandas as pd
    import pyarrow
    from pyarrow import parquet

    types = {
        pyarrow.string(): pd.StringDtype(),
        pyarrow.int64(): pd.Int64Dtype(),
        pyarrow.bool_(): pd.BooleanDtype(),
    }
    table = parquet.read_table(file)
    _check_columns(table.column_names)
    read: pd.DataFrame = table.to_pandas(types_mapper=types.get, ignore_metadata=True)
    return read


def _json_lines(text: BinaryIO, has_labels: Callable[[], bool]) -> pd.DataFrame:
    import msgspec

    decoder = msgspec.json.Decoder(dict[str, Any])
    parts: list[Columns] = []
    names: list[str] = []
    for lines in _parts(text):
        try:
            rows = [decoder.decode(line) for line in lines]
        except msgspec.DecodeError as error:
            raise _NoReportError(f"a line is no JSON object: {error}") from error
        names = names or list(rows[0])
        if not all(row.keys() == dict.fromkeys(names).keys() for row in rows):
            raise _NoReportError("its lines have other columns than the first one")
        parts.append({name: [row[name] for row in rows] for name in names})
    columns = {name: _kind(name) for name in names or list(_KINDS)[:6]}
    labels = [name for name, kind in columns.items() if kind is int]
    cells = {type(cell) for part in parts for name in labels for cell in part[name]} - {type(None)}
    if cells == {str} or (not cells and has_labels()):
        columns |= dict.fromkeys(labels, str)
    try:
        return data_frame(parts, columns)
    except TypeError as error:  # a cell of another type
        raise _NoReportError(str(error)) from error


def _parts(text: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a file, some at a time."""
    while lines := text.readlines(_BYTES_AT_ONCE):
        yield lines


def _csv(text: BinaryIO, has_labels: Callable[[], bool]) -> pd.DataFrame:
    import csv

    import pandas as pd

    header = text.readline().decode("utf-8-sig")
    delimiter = "\t" if header.startswith("filename\t") else ","
    names = next(csv.reader([header], delimiter=delimiter), [])
    _check_columns(names)
    kinds = {name: _kind(name) for name in names}
    labels = [name for name, kind in kinds.items() if kind is int]
    kinds |= dict.fromkeys(labels, str)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a line that is too long
        try:
            table = pd.read_csv(
                cast("Any", text),
                sep=delimiter,
                header=None,
                names=names,
                index_col=False,
                dtype=cast("Any", {name: _TYPES[kind] for name, kind in kinds.items() if kind}),
                keep_default_na=False,  # a file may be called null
                na_values=[""],
                low_memory=False,
            )
        except pd.errors.EmptyDataError:
            return data_frame([], kinds if has_labels() else kinds | dict.fromkeys(labels, int))
        except pd.errors.ParserWarning as error:
            raise _NoReportError("a line has more cells than the first one") from error
    found = {label for name in labels for label in table[name].dropna().unique()}
    if all(map(_NUMBER.fullmatch, found)) and not has_labels():
        table = table.astype(cast("Any", dict.fromkeys(labels, "Int64")))
    return table


def _has_labels(file: BinaryIO, account: Any) -> bool:
    """Whether the account beside a report says that predictions are labels; if it is the report's.

    A label may look like a number. ``file`` is the report, which is read once more.
    """
    try:
        if not account["options"]["labels"]:
            return False
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
        return bool(account["report"]["sha256"] == digest.hexdigest())
    except (OSError, KeyError, TypeError):
        return False


def _account(path: Path) -> Any:
    """The account beside a report; None where there is none."""
    try:
        account = read_regular(account_path(path), MAX_ACCOUNT) or b""
        return load_json(account, "a name is doubled")
    except (OSError, ValueError, RecursionError):
        return None


def _check_rows(path: Path, rows: int, account: Any, opened: os.stat_result) -> None:
    """Warn if a report has more or fewer rows than the account beside it tells of.

    A copy that ends at the end of a line looks whole. ``opened`` is the file that was read: if a
    run has replaced it meanwhile, the account may be that of the new one.
    """
    try:
        found = account["found"] if account["report"]["name"] == path.name else rows
        replaced = not os.path.samestat(opened, os.stat(path))
    except (OSError, KeyError, TypeError):
        return
    if isinstance(found, int) and found != rows and not replaced:
        _LOG.warning(
            "%s has %s, but %s tells of %d: it was edited or copied in part, or the account is of "
            "another run",
            path,
            counted(rows, "row"),
            account_path(path),
            found,
        )
