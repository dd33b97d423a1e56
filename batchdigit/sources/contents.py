"""Reading a path that may not be a regular file, or that may change meanwhile."""

from __future__ import annotations

import errno
import os

from batchdigit.errors import ImageError
from batchdigit.job import MAX_BYTES
from batchdigit.system.regular import open_regular

_AT_A_LINK = (errno.ELOOP, errno.EMLINK)  # Linux and macOS; FreeBSD


def read_file(
    path: bytes,
    *,
    follow_symlinks: bool = False,
    max_bytes: int = MAX_BYTES,
    folder: int | None = None,
) -> bytes:
    """The contents of a regular file of at most ``max_bytes`` bytes.

    ``folder`` is the descriptor of the folder that ``path`` starts from; without it the path is
    absolute, or starts from the working folder.

    Raises ImageError (``read`` or ``too-large``).
    """
    try:
        descriptor, status = open_regular(path, follow=follow_symlinks, folder=folder)
        try:
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
        if error.errno in _AT_A_LINK and not follow_symlinks:
            raise ImageError(
                "read", "a symbolic link, which is read only with --follow-symlinks"
            ) from error
        raise ImageError("read", error.strerror or str(error)) from error


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
