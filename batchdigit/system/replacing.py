"""Which files may be replaced: those that hold nothing, and those that this program wrote.

Whoever writes a :class:`Kind` of file says how to recognise one. ``--force`` replaces any file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from batchdigit.errors import OutputError

_REMEDY = "choose another name, or add --force to replace it"


class Kind(NamedTuple):
    """A kind of files that this program writes: its ``name`` in messages, and how one is known.

    ``recognise`` is asked about the path of a regular file that holds something. It returns False,
    or raises OSError, for every file that somebody else may have written.
    """

    name: str
    recognise: Callable[[Path], bool]


def check_replaceable(path: Path, kind: Kind | None, *, force: bool = False) -> None:
    """Raise OutputError if ``path`` is a file that only ``force`` replaces.

    That is one that this user may not write to (a rename would replace it all the same), and one
    that holds something but is not of the ``kind``; None is no kind. What is no regular file is
    not judged here, and neither is what is not there.
    """
    if force:
        return
    try:
        status = os.stat(path)
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        return
    if is_read_only(status) or not os.access(path, os.W_OK):
        raise OutputError(f"{path} exists and is read-only", _REMEDY)
    if status.st_size and not _is_of(path, kind):
        raise taken(path, kind)


def is_read_only(status: os.stat_result) -> bool:
    """Whether nobody may write to a file. That root can all the same does not make it less so."""
    return not status.st_mode & 0o222


def taken(path: Path, kind: Kind | None = None) -> OutputError:
    """The error about a file that is not to be replaced, because it is somebody's."""
    what = f" and is not {kind.name} that batchdigit wrote" if kind else " already"
    return OutputError(f"{path} exists{what}", _REMEDY)


def _is_of(path: Path, kind: Kind | None) -> bool:
    try:
        return kind is not None and kind.recognise(path)
    except OSError:  # it cannot even be read
        return False
