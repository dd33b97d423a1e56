"""Paths as the callers of Python functions give them, which may be anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from batchdigit.errors import UsageError

AnyPath = str | os.PathLike[str]
Sources = AnyPath | Iterable[AnyPath]


def path_text(what: str, given: object) -> str:
    """The path ``given`` as ``what``, as text.

    Raises UsageError for what is no path, and for one that no file can have: an empty one, one with
    a null character, one that cannot be encoded.
    """
    if not isinstance(given, str | bytes | os.PathLike):
        raise UsageError(f"{what} is of type {type(given).__name__}", "give a path")
    try:
        text = os.fsdecode(given)
        encoded = os.fsencode(text)
    except (UnicodeError, TypeError) as error:  # the latter from an odd PathLike
        raise UsageError(f"{what} is no path: {error}", "give another one") from error
    if not text:
        raise UsageError(
            f"{what} is an empty name, perhaps of a variable that is not set",
            "name a file, or . for this folder",
        )
    if b"\0" in encoded:
        raise UsageError(f"{what} has a null character in it", "give another one")
    return text


def as_path(what: str, given: object) -> Path:
    """The same as a Path."""
    return Path(path_text(what, given))


def address_scheme(text: str) -> str:
    """``s3`` of ``s3://bucket/key``, in lower case; empty for what is no address.

    One slash will do, because two become one in a Path. A drive has but one letter.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text)
    return found[1].lower() if found else ""
