"""The program as its user meets it: as a process that says what is wrong in one line."""

import os
import subprocess

from batchdigit.cli.app import build

app = build()
WRONG_USAGE = [
    ["--out", "out.xls"],
    ["--batch-size", "0"],
    ["--batch-size", "many"],
    ["--batch-size", "99999999999999999999"],
    ["--workers", "-1"],
    ["--workers", "x"],
    ["--topk", "0"],
    ["--max-bad", "few"],
    ["--max-gone", "3"],
    ["--out", "out.csv", "--update", "--max-gone", "few"],
    ["--precision", "fp8"],
    ["--preprocess", "magic"],
    ["--review-below", "2"],
    ["--review-below", "nan"],
    ["--format", "xml"],
    ["--device", "tpu"],
    ["--out", "-", "--json"],
    [""],
]


def users_environment() -> dict[str, str]:
    """This environment, with output buffered as it is for users, whatever this machine prefers."""
    return {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}


def problem(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that says what is wrong."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert "; " in line  # what to do about it
    return line
