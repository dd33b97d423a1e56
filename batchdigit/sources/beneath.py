"""Folders below a root, entered one by one from it, so that no link leads out of it.

A path that is opened at once follows links in all its folders but the last name. Whoever may write
to a folder could so lead a reader anywhere, even one that looks at each name before it is opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

# A folder may be entered by whoever may not list it. (macOS has no such descriptors.)
_ENTER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_ENTER |= getattr(os, "O_CLOEXEC", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
MAX_PATH = 4_096  # bytes
MAX_OPEN = 8  # folders
_BY_DESCRIPTOR = os.open in os.supports_dir_fd  # not on Windows


class Beneath:
    """The folders below ``root``; the one that was used last stays open, and those it lies in.

    Links are followed in the paths that the user has ``named``, relative to the root, and with
    ``follow`` everywhere. With ``make``, a folder that is missing is made. A copy in another
    process opens the root again, if it is the same folder.
    """

    def __init__(
        self,
        root: bytes,
        *,
        follow: bool = False,
        named: Iterable[bytes] = (),
        make: bool = False,
    ) -> None:
        self.root = root
        self.follow = follow
        self._make = make
        self._trusted = {start for path in named for start in _starts(path)}
        self._identity: tuple[int, int] | None = None
        self._root: int | None = None
        self._open: deque[tuple[bytes, int]] = deque()  # each within the one before

    def place(self, name: bytes) -> tuple[bytes, int | None]:
        """What opens the file ``name``: its path, and the descriptor of the folder it starts from.

        The descriptor is good until the next call, from whatever thread. Raises OSError where a
        folder cannot be entered, or is a link.
        """
        if not _BY_DESCRIPTOR:
            return os.path.join(self.root, name), None
        folder, _, last = name.rpartition(b"/")
        return last or b".", self._enter(folder)

    @contextlib.contextmanager
    def entries(self, folder: bytes) -> Iterator[Iterator[os.DirEntry[Any]]]:
        """What lies in a folder; names are text. Raises OSError as :meth:`place` does."""
        path, descriptor = self.place(os.path.join(folder, b""))
        if descriptor is None:
            with os.scandir(os.fsdecode(path)) as found:
                yield found
            return
        listed = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            with os.scandir(listed) as found:
                yield found
        finally:
            os.close(listed)

    def identity(self, folder: bytes) -> tuple[int, int]:
        """The device and the inode of a folder. Raises OSError."""
        path, descriptor = self.place(os.path.join(folder, b""))
        status = os.stat(path, dir_fd=descriptor)
        return status.st_dev, status.st_ino

    def _enter(self, folder: bytes) -> int:
        if self._open and self._open[-1][0] == folder:  # as for most of a million images
            return self._open[-1][1]
        root = self._open_root()
        if not folder:
            return root
        if len(self.root) + len(folder) > MAX_PATH:  # which a path has that is opened at once
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        while self._open and not (folder + b"/").startswith(self._open[-1][0] + b"/"):
            os.close(self._open.pop()[1])
        known, descriptor = self._open[-1] if self._open else (b"", root)
        for path in _starts(folder, known):
            flags = _ENTER | (0 if self.follow or path in self._trusted else _NO_FOLLOW)
            last = path[path.rfind(b"/") + 1 :]
            if self._make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(last, dir_fd=descriptor)
            try:
                descriptor = os.open(last, flags, dir_fd=descriptor)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    problem = "a folder on its path is a link, or no folder"
                    raise OSError(error.errno, problem) from error
                raise
            self._open.append((path, descriptor))
            if len(self._open) > MAX_OPEN:
                os.close(self._open.popleft()[1])
        return descriptor

    def _open_root(self) -> int:
        if self._root is None:
            descriptor = os.open(self.root, _ENTER)
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino)
            if self._identity not in (None, identity):
                os.close(descriptor)
                raise OSError(errno.ESTALE, "the folder of the source is another one now")
            self._root, self._identity = descriptor, identity
        return self._root

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open in this process."""
        return vars(self) | {"_root": None, "_open": deque()}

    def __del__(self) -> None:
        opened = [descriptor for _, descriptor in self._open]
        for descriptor in opened if self._root is None else [self._root, *opened]:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _starts(path: bytes, known: bytes = b"") -> Iterator[bytes]:
    """The folders on a path, below ``known``: for ``a/b/c``, ``a``, ``a/b`` and the path itself."""
    end = len(known)
    while (end := path.find(b"/", end + 1)) >= 0:
        yield path[:end]
    if path != known:
        yield path
