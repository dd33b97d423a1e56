"""Telling our own reports and tables from the files of others, by how they begin."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from batchdigit.job import Job
from batchdigit.places import MAX_ACCOUNT, STDOUT, account_path, state_path
from batchdigit.sources.apart import check_apart
from batchdigit.system.json_objects import read_json_object
from batchdigit.system.regular import HEAD, check_own, open_regular
from batchdigit.system.replacing import Kind, check_replaceable

COLUMNS = ("filename", "prediction", "confidence", "error")
"""What every report begins with; other programs have tables of the first three."""

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
"""What files of these formats begin with."""

_IN_AN_ACCOUNT = {"found", "predicted", "failed", "exit_code"}
_BOM = "\ufeff".encode()
_AS_GZIP = zlib.MAX_WBITS + 16


def _is_report(path: Path) -> bool:
    state = state_path(path)
    return (
        (state.is_file() and not state.is_symlink())
        or is_account(account_path(path))
        or begins_with(path, COLUMNS)
    )


def is_account(path: Path) -> bool:
    """Whether a file is the account of a run."""
    return read_json_object(path, MAX_ACCOUNT).keys() >= _IN_AN_ACCOUNT


REPORT = Kind("a report", _is_report)
ACCOUNT = Kind("the account of a run", is_account)


def check_outputs(job: Job) -> None:
    """Raise what stands against writing a report and its account, before anything else is done.

    UsageError if the report would be an image of the source, OutputError if it would replace what
    is not ours, unless by force.
    """
    if job.out != STDOUT:
        check_apart("--out", job.out, job.source)
        check_own(account_path(job.out), private=False)  # others may read it
        check_replaceable(job.out, REPORT, force=job.force)
        check_replaceable(account_path(job.out), ACCOUNT, force=job.force)


def begins_with(path: Path, columns: Sequence[str]) -> bool:
    """Whether the table in a file begins with these columns.

    It may be CSV, TSV, JSON lines (gzipped, too) or Parquet, whatever its name says, and may have
    been through a spreadsheet. A compressed file that holds nothing is a table, too. Raises
    OSError.
    """
    descriptor, _ = open_regular(path)
    with open(descriptor, "rb") as file:
        data = file.read(HEAD)
        if data.startswith(PARQUET):
            return _columns_of_parquet(file)[: len(columns)] == list(columns)
    if data.startswith(GZIP):
        try:
            data = zlib.decompressobj(_AS_GZIP).decompress(data, HEAD)
        except zlib.error:
            return False
        if not data:
            return True
    names = [re.escape(name.encode()) for name in columns]
    first, *others = [rb'"?%s"?' % name for name in names]
    header = first + rb"(?P<delimiter>[,;\t|])" + rb"(?P=delimiter)".join(others)
    text = rb'"(?:[^"\\]|\\.)*"'
    cells = rb",\s*".join(rb'"%s":\s*(?:%s|[^",]*)' % (name, text) for name in names)
    return bool(
        re.match(header + rb"(?:(?P=delimiter)|[\r\n]|$)", data.removeprefix(_BOM))
        or re.match(rb"\{\s*" + cells, data)
    )


def _columns_of_parquet(file: BinaryIO) -> list[str]:
    try:
        from pyarrow import parquet

        return list(parquet.read_schema(file).names)
    except Exception:  # noqa: BLE001  (it is damaged, or there is no pyarrow)
        return []
