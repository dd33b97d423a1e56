"""Reading a path that may not be a regular file, or that may change meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from batchdigit.errors import ImageError
from batchdigit.job import MAX_BYTES

_FILE_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_file(path: bytes, *, follow_symlinks: bool = False, max_bytes: int = MAX_BYTES) -> bytes:
    """The contents of a regular file of at most ``max_bytes`` bytes.

    The file is opened without blocking, and its type is checked once it is open. So a FIFO or a
    device can neither hang the reader nor slip in between the check and the opening.

    Raises ImageError (``read`` or ``too-large``).
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow_symlinks:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            _check_regular(status)
            if status.st_size > max_bytes:
                raise ImageError(
                    "too-large", f"{status.st_size} bytes, more than the limit of {max_bytes}"
                )
            data = _read_to_end(descriptor, status.st_size)
            after = os.fstat(descriptor)
            if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise ImageError("read", "the file changed while it was being read")
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        if not follow_symlinks and os.path.islink(path):
            raise ImageError(
                "read", "a symbolic link, which is read only with --follow-symlinks"
            ) from error
        if error.errno == errno.ENXIO:  # a socket cannot be opened at all
            with contextlib.suppress(OSError):
                _check_regular(os.stat(path, follow_symlinks=follow_symlinks))
        raise ImageError("read", error.strerror or str(error)) from error


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _FILE_KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise ImageError("read", f"not a regular file but {kind}")


def _read_to_end(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while data:
        if sum(map(len, parts)) > size:
            raise ImageError("read", "the file grew while it was being read")
        data = os.read(descriptor, size + 1)
        parts.append(data)
    if sum(map(len, parts)) != size:
        raise ImageError("read", "the file shrank while it was being read")
    return b"".join(parts)
