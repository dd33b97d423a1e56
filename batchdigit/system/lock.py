"""One run at a time for each output.

The lock is a POSIX lock (``fcntl``): it ends with its process, however that ends, and children do
not inherit it. It is a lock on a hidden file beside the output. What counts is who has locked that
file, not who created it, so a file that a killed process left behind blocks no other run of its
user.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from batchdigit.errors import OutputBusyError, OutputError
from batchdigit.places import lock_path
from batchdigit.system.publish import check_target, writing
from batchdigit.system.regular import check_own, check_own_descriptor, open_own

try:
    import fcntl
except ImportError:  # on Windows, where only runs within one process exclude each other
    fcntl = None  # type: ignore[assignment]

SECONDS_BETWEEN_TRIES = 0.2
MAX_HOLDER = 100  # bytes

# A POSIX lock does not exclude the threads of its own process, and is lost as soon as the process
# closes the file, by any descriptor.
_held_here: set[Path] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def hold_output(
    out: Path, *, wait: float = 0.0, on_wait: Callable[[str], None] = lambda _holder: None
) -> Iterator[None]:
    """Keep other runs from writing ``out`` while the block runs.

    If another run holds it, calls ``on_wait`` once with the name of that run's process, then waits
    for up to ``wait`` seconds. Raises OutputBusyError when that run has not ended by then, and
    OutputError when the file to lock cannot be created.
    """
    check_target(out)
    path = lock_path(out)
    deadline = time.monotonic() + wait
    told = False
    while True:
        with writing(out):
            descriptor = _try(path)
        if descriptor is not None:
            break
        left = deadline - time.monotonic()
        if left <= 0:
            longer = f"wait longer than --wait {wait:g}" if wait else "add --wait SECONDS"
            raise OutputBusyError(
                f"{out} is being written by another run ({_holder(path)})",
                f"let it end, or {longer}",
            )
        if not told:
            on_wait(_holder(path))
            told = True
        time.sleep(min(left, SECONDS_BETWEEN_TRIES))
    try:
        yield
    finally:
        # The file is removed while it is still locked. Whoever locks it next finds that its name
        # is gone, and tries again.
        with contextlib.suppress(OSError):
            os.unlink(path)
        _let_go(path, descriptor)


def _try(path: Path) -> int | None:
    """The descriptor of the locked file, or None when another run holds the lock."""
    with _guard:
        if path in _held_here:
            return None
        _held_here.add(path)
    descriptor = None
    try:
        while descriptor is None:
            check_own(path)
            # O_NOFOLLOW, because a link of another user could make us overwrite any other file.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
            check_own_descriptor(path, descriptor)  # it may be another by now
            if not _lock(descriptor):
                break
            if _is_still(path, descriptor):
                try:
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()}\n".encode())
                except BaseException:  # a full disk, for example
                    os.unlink(path)
                    raise
                return descriptor
            os.close(descriptor)
            descriptor = None
    except BaseException:
        _let_go(path, descriptor)
        raise
    _let_go(path, descriptor)
    return None


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the name still leads to the open file; the previous run may have removed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _let_go(path: Path, descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
    with _guard:
        _held_here.discard(path)


def _holder(path: Path) -> str:
    with _guard:
        if path in _held_here:  # reading and closing the file would give up the lock
            return f"process {os.getpid()}, this one"
        with contextlib.suppress(OSError, OutputError), open_own(path) as file:
            if text := file.read(MAX_HOLDER).decode("utf-8", "replace").strip():
                return text
    return "its process is unknown"
