"""Folders that outputs need, made on request."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from batchdigit.places import STDOUT
from batchdigit.system.publish import check_meant_here, resolve, writing


@contextlib.contextmanager
def parents_made(*paths: Path | None, wanted: bool) -> Iterator[None]:
    """If ``wanted``, make the missing folders of files that will be written in the block.

    None and standard output are no files. If the block fails, those that are still empty are
    removed again. Raises OutputError where a folder cannot be made, and where
    :func:`~batchdigit.system.publish.resolve` does.
    """
    made: list[Path] = []
    try:
        for path in paths if wanted else ():
            if path in (None, STDOUT):
                continue
            for folder in _missing(path):
                with writing(path):
                    if _make(folder):
                        made.append(folder)
        yield
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # something is in it
                os.rmdir(folder)
        raise


def _missing(path: Path) -> list[Path]:
    """The folders above ``path`` that are not there, the uppermost first, without links in them."""
    check_meant_here(path)
    folder = resolve(path).parent
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def _make(folder: Path) -> bool:
    """Make one folder; False if another run just did. What has appeared there may be no link."""
    try:
        os.mkdir(folder)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise
        return False
    return True
