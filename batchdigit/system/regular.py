"""Opening files that may not be what they seem: FIFOs, devices, links, files of somebody else.

A file is opened without blocking, and its type is checked once it is open. So a FIFO or a device
can neither hang the reader nor slip in between the check and the opening.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from batchdigit.errors import OutputError
from batchdigit.places import HALF_WRITTEN

HEAD = 1 << 16  # bytes

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
                _check_regular(os.stat(path, dir_fd=folder, follow_symlinks=follow))
        raise
    try:
        status = os.fstat(descriptor)
        _check_regular(status)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def _check_regular(status: os.stat_result) -> None:
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


def head(
    path: bytes | Path, size: int = HEAD, *, follow: bool = True, folder: int | None = None
) -> bytes:
    """The first bytes of a regular file, at most ``size``; opened as by :func:`open_regular`."""
    descriptor, _ = open_regular(path, follow=follow, folder=folder)
    with open(descriptor, "rb") as file:
        return file.read(size)


class OpenToOthersError(OutputError):
    """A file of ours that others may have changed, or that has another name."""


@contextlib.contextmanager
def open_own(path: Path) -> Iterator[BinaryIO]:
    """A file of ours beside a report, to read; nobody else can have put it there.

    Raises FileNotFoundError and other OSErrors, OpenToOthersError, and OutputError for a file that
    is not ours.
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

    It must be a regular file, or a ``folder``, of this user. What is ``private`` must also be such
    that nobody else can have changed it: a file with a single name that others may not write to, or
    a folder to which they have no right at all. Otherwise OpenToOthersError is raised.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    _check_own(path, status, folder=folder, private=private)


def check_own_descriptor(path: Path, descriptor: int) -> None:
    """As :func:`check_own`, of the file that is open."""
    _check_own(path, os.fstat(descriptor))


def _check_own(
    path: Path, status: os.stat_result, *, folder: bool = False, private: bool = True
) -> None:
    remedy = "see who has put it there, and remove it"
    wanted = stat.S_ISDIR if folder else stat.S_ISREG
    if not wanted(status.st_mode):
        what = "a folder" if folder else "a regular file"
        raise OutputError(f"{path} is {kind_of(status)} instead of {what} of this program", remedy)
    if os.name != "posix":
        return
    forbidden = 0o077 if folder else _OTHERS_MAY_WRITE
    foreign, shared = status.st_uid != os.geteuid(), bool(status.st_mode & forbidden)
    if foreign or (private and shared):
        owner, rights = _of_a_new_file(path.parent)
        if foreign and status.st_uid != owner:
            number = status.st_uid
            raise OutputError(f"{path} belongs to another user, with number {number}", remedy)
        if private and status.st_mode & forbidden & ~rights:
            raise OpenToOthersError(
                f"{path} is open to other users, who may have changed it",
                "chmod go-w it if they have not" if not folder else remedy,
            )
    if private and not folder and status.st_nlink > 1:
        raise OpenToOthersError(f"{path} is a file that has another name, too", "remove it")


def _of_a_new_file(folder: Path) -> tuple[int, int]:
    """The owner and the rights that a file gets which this user makes for himself in a folder.

    Some file systems have neither owners nor rights of their own, such as those of Windows; some
    give the files of root to somebody else.
    """
    path = folder / HALF_WRITTEN.replace("*", secrets.token_hex(8))
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | _PLAIN, 0o600)
    except OSError:  # nothing can be made there, so that nothing shows that they are others
        return os.geteuid(), 0o600
    try:
        status = os.fstat(descriptor)
        return status.st_uid, status.st_mode
    finally:
        os.close(descriptor)
        os.unlink(path)


def open_to_append(path: Path) -> int:
    """The descriptor of a file at whose end to write; it is made if it is not there.

    Opening it waits for nobody, as a FIFO that nobody reads would make us. Raises OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _PLAIN | _NO_WAIT, 0o666)
    if _NO_WAIT:
        os.set_blocking(descriptor, True)
    return descriptor
