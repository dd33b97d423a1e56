"""What somebody meant by a source that is not there, and what to give instead."""

from __future__ import annotations

import glob
import os
import re
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from batchdigit.system.paths import address_scheme

_FETCH = {
    "s3": " (aws s3 sync)",
    "gs": " (gcloud storage cp -r)",
    "az": " (azcopy copy)",
    "https": " (curl -O)",
    "http": " (curl -O)",
}
_QUOTES = ("''", '""', "``", "\u2018\u2019", "\u201c\u201d")
_VARIABLE = re.compile(r"\$\w+|\$\{\w+\}|%\w+%")


def meant_by(source: str) -> tuple[str, str] | None:
    """The problem and the remedy, if ``source``, which is no file, looks like something else."""
    for explain in (_address, _standard_input, _odd_ends, _home, _variable, _pattern):
        if told := explain(source):
            return told
    return None


def _address(source: str) -> tuple[str, str] | None:
    scheme = address_scheme(source)
    if scheme == "file":
        path = unquote(urlsplit(source).path)
        return f"{source} is an address and no path", f"give the path {path}"
    remedy = f"fetch it first{_FETCH.get(scheme, '')}, then name the file or folder"
    return (f"{source} is an address, and nothing is fetched", remedy) if scheme else None


def _standard_input(source: str) -> tuple[str, str] | None:
    if source == "-":
        return "images cannot come from standard input", "name a folder or image files"
    return None


def _odd_ends(source: str) -> tuple[str, str] | None:
    """White space or quotes around a name, which were meant for the shell."""
    bare = source.strip()
    if bare != source:
        return f"there is no file called {source!r}", f"leave out the white space around {bare}"
    if "\n" in source:
        return f"there is no file called {source!r}", "name each file by itself"
    if len(source) > 2 and source[0] + source[-1] in _QUOTES:
        return f"there is no file called {source}", f"leave out the quotes around {source[1:-1]}"
    return None


def _home(source: str) -> tuple[str, str] | None:
    if not source.startswith("~"):
        return None
    path = os.path.expanduser(source)
    remedy = f"leave its quotes off, or write {path}" if path != source else "write the whole path"
    return f"the shell has not replaced ~ in {source}", remedy


def _variable(source: str) -> tuple[str, str] | None:
    found = _VARIABLE.search(source)
    if found is None:
        return None
    return f"the shell has not replaced {found[0]} in {source}", "use double quotes, or none"


def _pattern(source: str) -> tuple[str, str] | None:
    if not glob.has_magic(source):
        return None
    parts = PurePath(source).parts
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    folder = PurePath(*parts[:fixed])
    if next(glob.iglob(source), None) is not None:
        problem = f"{source} is a pattern that the shell has not replaced"
        return problem, f"leave its quotes off, or name the folder {folder}"
    if os.path.isdir(folder):
        return f"{source} is a pattern that matches no file", f"name the folder {folder}"
    return f"{source} is a pattern that matches no file", f"there is no folder {folder} either"
