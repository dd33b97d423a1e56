"""Files that appear whole or not at all.

A file is written under a hidden name in the folder where it will live, or in a folder below that.
Then it is flushed to the disk and renamed to its final name, and the folder is flushed, too. POSIX
makes the rename atomic, so whoever opens the final name sees the complete old file or the complete
new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from batchdigit.errors import OutputError, remedy_for
from batchdigit.places import HALF_WRITTEN, STDOUT
from batchdigit.system.paths import address_scheme
from batchdigit.system.regular import check_own
from batchdigit.system.replacing import Kind, check_replaceable, taken

_REMEDIES = {
    errno.EPERM: "choose another place",
    errno.EBUSY: "choose another place",
    errno.EIO: "check the disk, then run again",
    errno.ENOENT: "create its folder first, or add --parents",
    errno.EACCES: "let this user write there, or choose another place",
    errno.ELOOP: "remove that link",
    errno.ENOTDIR: "remove what stands in its way",
    errno.EISDIR: "remove what stands in its way",
}
_POSIX = os.name == "posix"
MAX_STEPS_TO_RESOLVE = 10_000  # links that lead in a circle are an error of realpath's
_CANNOT_FLUSH = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF)


class _File(NamedTuple):
    """A file that is being written, and what it will become."""

    handle: BinaryIO
    temporary: Path
    target: Path
    kind: Kind | None
    force: bool


class Publication:
    """A context manager around files that are published together.

    ``create`` opens a file to write. ``publish`` puts all files in their places, in the order in
    which they were created. Leaving the block without ``publish`` removes every trace of them.
    Files of others are not replaced, neither those that are there at first nor those that have
    appeared meanwhile, unless by ``force``. ``staging`` is a folder to write them in, instead of
    the folder of each; it must be on the same file system. If ``part_of`` is given, errors name it
    instead of the file: it is what the user asked for, and what the files are written for.
    """

    def __init__(
        self, staging: Path | None = None, *, part_of: Path | None = None, force: bool = False
    ) -> None:
        self._staging = staging
        self._part_of = part_of
        self._force = force
        self._files: list[_File] = []

    def create(self, path: Path, kind: Kind | None = None, *, own: bool = False) -> BinaryIO:
        """A new empty file that will become ``path``.

        It replaces only a file of its ``kind``, or one that holds nothing. A file that this program
        keeps for itself is its ``own``, by its name alone: no link leads to it, and only this user
        may read it. Raises OutputError when there is another file, when the folder is missing or
        not writable, or when ``path`` exists and is not a regular file (renaming over ``/dev/null``
        would destroy it).
        """
        if own:
            check_own(path, private=False)  # it is only replaced
        check_target(path)
        with writing(self._part_of or path):
            target = Path(os.path.realpath(path.parent), path.name) if own else resolve(path)
            check_replaceable(path, kind, force=self._force or own)
            # The tempfile module would create private files (0600). A report follows the umask, and
            # one that replaces another keeps the permissions of that one.
            folder = self._staging or target.parent
            if os.stat(folder).st_dev != os.stat(target.parent).st_dev:
                raise OutputError(
                    f"cannot write {path}: it leads to another file system",
                    "remove that link",
                )
            temporary = folder / HALF_WRITTEN.replace("*", secrets.token_hex(8))
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
            descriptor = os.open(temporary, flags, 0o600 if own else 0o666)
            handle = os.fdopen(descriptor, "w+b")
            self._files.append(_File(handle, temporary, target, kind, self._force or own))
            if not own:
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(temporary, _permissions(os.fstat(descriptor), os.stat(target)))
        return handle

    def flush(self) -> None:
        """Flush every file to the disk, and close it. Raises OutputError."""
        for file in self._files:
            if not file.handle.closed:
                with writing(self._part_of or file.target):
                    file.handle.flush()
                    os.fsync(file.handle.fileno())
                    file.handle.close()

    def publish(self) -> None:
        """Flush every file to the disk, then rename each to its final name. Raises OutputError."""
        self.flush()
        for file in self._files:
            check_replaceable(file.target, file.kind, force=file.force)
        folders = {file.target.parent for file in self._files}
        while self._files:
            file = self._files[0]
            with writing(self._part_of or file.target):
                if file.force or os.path.lexists(file.target):
                    os.replace(file.temporary, file.target)
                else:
                    _move_to_free_name(file.temporary, file.target)
            self._files.pop(0)
        for folder in folders:
            with writing(self._part_of or folder):
                flush_folder(folder)

    def __enter__(self) -> Publication:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            # Closing flushes, which fails again on a full disk. The file is removed anyway.
            with contextlib.suppress(OSError):
                file.handle.close()
            with contextlib.suppress(OSError):
                os.unlink(file.temporary)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn every OSError in the block but BrokenPipeError into an OutputError about ``path``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        otherwise = "make room or choose another place, then run again"
        remedy = remedy_for(error, _REMEDIES.get(error.errno or 0, otherwise))
        raise OutputError(f"cannot write {_describe(error, path)}", remedy) from error


def _describe(error: OSError, path: Path) -> str:
    """What cannot be written and why; names the file at which it failed if that is another one."""
    name = "standard output" if path == STDOUT else str(path)
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    if os.path.lexists(where) and not where.match(HALF_WRITTEN) and where.name != path.name:
        name += f" (at {where})"
    return f"{name}: {error.strerror or error}"


def _move_to_free_name(temporary: Path, target: Path) -> None:
    """Rename, but never replace a file, not even one that has only just appeared."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise taken(target) from error
    except OSError:  # a file system without hard links
        os.replace(temporary, target)
    else:
        os.unlink(temporary)


def check_target(path: Path) -> None:
    """Raise OutputError where no file can be put, which would otherwise show at the very end."""
    check_meant_here(path)
    with writing(path):
        target = resolve(path)
        if not target.name:
            raise OutputError(
                f"cannot write {path}: it is a folder", f"name a file in it: {path / 'NAME'}"
            )
        try:
            status = os.stat(path)  # of the path, since the target has no name where it is a pipe
        except FileNotFoundError:
            os.stat(target.parent)  # which must be there
            return
        if stat.S_ISDIR(status.st_mode):
            raise OutputError(
                f"cannot write {path}: it is a folder", f"name a file in it: {path / 'NAME'}"
            )
        if not stat.S_ISREG(status.st_mode):
            raise OutputError(
                f"cannot write {path}: it exists and is not a regular file", "choose another name"
            )
        if _is_mount_point(target):
            raise OutputError(
                f"cannot write {path}: it is a mount point, which cannot be replaced",
                "mount its folder instead",
            )
        if _POSIX and (_is_planted(target, status) or _is_protected(target, status)):
            raise OutputError(
                f"cannot write {path}: it belongs to another user, and its folder protects it",
                "choose another name",
            )


def check_meant_here(path: Path) -> None:
    """Raise OutputError for ``s3://bucket/file``, ``~/file`` and ``$HOME/file``.

    Not if there are folders of such names.
    """
    if path.parent.exists():
        return
    if address_scheme(str(path)):
        raise OutputError(
            f"cannot write {path}: it is an address, and nothing is sent",
            "write to a file here, then copy it there",
        )
    if path.parts[0].startswith(("~", "$")):
        raise OutputError(
            f"cannot write {path}: the shell has not replaced {path.parts[0]}",
            "leave its quotes off, or give the whole path",
        )


def resolve(path: Path) -> Path:
    """The file that ``path`` is or links to.

    Raises OutputError for a link that another user may have planted in a folder that is everybody's
    (as Linux refuses to follow it with ``fs.protected_symlinks``), wherever on the way it is met.
    """
    place, *pending = path.absolute().parts
    for _ in range(MAX_STEPS_TO_RESOLVE if _POSIX else 0):
        if not pending:
            break
        step = os.path.join(place, pending.pop(0))
        try:
            status = os.lstat(step)
        except OSError:  # there is nothing there yet, or nothing that this user may see
            break
        if stat.S_ISLNK(status.st_mode):
            if _is_planted(Path(step), status):
                raise OutputError(
                    f"cannot write {path}: {step} is a link of another user", "choose another name"
                )
            target = os.path.join(os.path.dirname(step), os.readlink(step))
            place, *more = Path(target).parts
            pending = [*more, *pending]
        else:
            place = step
    return Path(os.path.realpath(path))


def _is_planted(path: Path, status: os.stat_result) -> bool:
    """Whether another user may have put it into a folder that is everybody's."""
    return _in_a_sticky_folder(path, status.st_uid, os.geteuid(), 0)


def _is_protected(path: Path, status: os.stat_result) -> bool:
    """Whether its folder lets only others remove it."""
    return os.geteuid() != 0 and _in_a_sticky_folder(path, os.geteuid(), status.st_uid)


def _in_a_sticky_folder(path: Path, user: int, *others: int) -> bool:
    """Whether the folder keeps users from each other's files, and this user is not its owner."""
    folder = os.stat(path.parent)
    return bool(folder.st_mode & stat.S_ISVTX) and user not in (folder.st_uid, *others)


def _is_mount_point(target: Path) -> bool:
    """Whether a file is mounted there, as in containers; ``os.path.ismount`` knows only folders."""
    name = bytes(target).replace(b"\\", rb"\134").replace(b" ", rb"\040")
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as mounts:
        return any(line.split()[4] == name for line in mounts)
    return False


def _permissions(new: os.stat_result, old: os.stat_result) -> int:
    """Those of the file that is replaced, but never to run as this user.

    If it is another user's, they give no right that the new file would not have anyway.
    """
    mine = not _POSIX or old.st_uid == os.geteuid()
    return old.st_mode & (0o777 if mine else new.st_mode & 0o777)


def flush_folder(folder: Path) -> None:
    """Make the renames in ``folder`` survive a loss of power, where the system lets us.

    If the folder may not be opened, or its file system cannot flush it, the files are in their
    places all the same: that is no error. Raises OSError for anything else.
    """
    if not _POSIX:  # on Windows folders cannot be opened, and so cannot be flushed
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
