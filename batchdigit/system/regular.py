"""Opening files that may not be what they seem: FIFOs, devices, links, files of somebody else.

A file is opened without blocking, and its type is checked once it is open. So a FIFO or a device
can neither hang the reader nor slip in between the check and the opening.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from batchdigit.errors import OutputError

_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NotRegularError(OSError):
    """Something other than a regular file; ``strerror`` says what."""


def open_regular(
    path: bytes | Path, *, follow: bool = True, folder: int | None = None
) -> tuple[int, os.stat_result]:
    """A regular file, opened for reading: its descriptor, and what is known about it.

    ``folder`` is the descriptor of the folder that a relative ``path`` starts from. Raises OSError,
    NotRegularError for what is not a regular file.
    """
    flags = os.O_RDONLY | _PLAIN | _NO_WAIT | (0 if follow else _NO_FOLLOW)
    try:
        descriptor = os.open(path, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket cannot be opened at all
            with contextlib.suppress(NotImplementedError):
                check_regular(os.stat(path, dir_fd=folder, follow_symlinks=follow))
        raise
    try:
        status = os.fstat(descriptor)
        check_regular(status)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def check_regular(status: os.stat_result) -> None:
    """Raise NotRegularError unless it is what is known about a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(errno.EINVAL, f"not a regular file but {kind_of(status)}")


def kind_of(status: os.stat_result) -> str:
    """What something is that is not a regular file, in words."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "something else")


def read_regular(path: Path, limit: int) -> bytes | None:
    """What a regular file holds, or None if that is more than ``limit`` bytes. Raises OSError."""
    descriptor, _ = open_regular(path)
    with open(descriptor, "rb") as file:
        data = file.read(limit + 1)  # the file may grow while it is read
    return data if len(data) <= limit else None


@contextlib.contextmanager
def open_own(path: Path) -> Iterator[BinaryIO]:
    """A file of ours beside a report, to read; nobody else can have put it there.

    Raises FileNotFoundError and other OSErrors, and OutputError for a file that is not ours.
    """
    try:
        descriptor, status = open_regular(path, follow=False)
    except OSError:
        check_own(path)  # which says more, if it is a link, for example
        raise
    with open(descriptor, "rb") as file:
        _check_own(path, status, private=True)
        yield file


def check_own(path: Path, *, folder: bool = False, private: bool = True) -> None:
    """Raise OutputError if there is something at ``path`` that this program has not put there.

    It must be a regular file, or a ``folder``, with a single name, of this user. If it is
    ``private``, others must not be able to write to it, and must have no right to a folder at all.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    _check_own(path, status, folder=folder, private=private)


def check_own_descriptor(path: Path, descriptor: int, *, private: bool = True) -> None:
    """As :func:`check_own`, of the file that is open."""
    _check_own(path, os.fstat(descriptor), private=private)


def _check_own(
    path: Path, status: os.stat_result, *, folder: bool = False, private: bool = True
) -> None:
    remedy = f"see who has put {path} there, and remove it"
    wanted = stat.S_ISDIR if folder else stat.S_ISREG
    if not wanted(status.st_mode):
        what = "a folder" if folder else "a regular file"
        raise OutputError(f"{path} is {kind_of(status)} instead of {what} of this program", remedy)
    if os.name != "posix":
        return
    if status.st_uid != os.geteuid():
        raise OutputError(f"{path} belongs to another user, with number {status.st_uid}", remedy)
    if not folder and status.st_nlink > 1:
        raise OutputError(f"{path} is a file that has another name, too", remedy)
    forbidden = 0o077 if folder else _OTHERS_MAY_WRITE
    if private and status.st_mode & forbidden:
        raise OutputError(
            f"{path} is open to other users, who may have changed it",
            f"{remedy}, or take their rights away if it is yours",
        )
