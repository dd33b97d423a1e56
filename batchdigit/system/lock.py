"""One run at a time for each output.

The lock is POSIX's (``fcntl``): it ends with the process, however that ends, and children do not
inherit it. It lies on a hidden file beside the output and is held by whoever has it locked, not by
whoever made it, so that a file left behind by a killed process blocks no other run of that user.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from batchdigit.errors import OutputBusyError
from batchdigit.places import lock_path
from batchdigit.system.publish import check_target, writing

try:
    import fcntl
except ImportError:  # Windows, where only runs within one process exclude each other
    fcntl = None  # type: ignore[assignment]

SECONDS_BETWEEN_TRIES = 0.2

# POSIX locks do not exclude a process's own threads, and closing the file once gives all up.
_held_here: set[Path] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def hold_output(
    out: Path, *, wait: float = 0.0, on_wait: Callable[[str], None] = lambda _holder: None
) -> Iterator[None]:
    """Keep other runs from writing ``out`` while the block runs.

    Waits up to ``wait`` seconds for another run to end, after calling ``on_wait`` once with the
    name of that run's process. Raises OutputBusyError when it has not ended by then, and
    OutputError when the lock cannot be made.
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
            raise OutputBusyError(
                f"{out} is being written by another run ({_holder(path)})",
                "let it end, or add --wait SECONDS",
            )
        if not told:
            on_wait(_holder(path))
            told = True
        time.sleep(min(left, SECONDS_BETWEEN_TRIES))
    try:
        yield
    finally:
        # Removed while it is locked: whoever waits for it finds that its name has gone, and
        # tries again.
        with contextlib.suppress(OSError):
            os.unlink(path)
        _let_go(path, descriptor)


def _try(path: Path) -> int | None:
    """The open, locked file, or None where another run holds it."""
    with _guard:
        if path in _held_here:
            return None
        _held_here.add(path)
    descriptor = None
    try:
        while descriptor is None:
            # Not through a link, by which others could have us overwrite what is not ours.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)
            if not _lock(descriptor):
                break
            if _is_still(path, descriptor):
                try:
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()}\n".encode())
                except BaseException:  # a full disk for one
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
    except (BlockingIOError, PermissionError):  # either, says POSIX
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the name still leads to the open file, which the run before may have removed."""
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
        if path in _held_here:  # reading the file, and closing it, would give the lock up
            return f"process {os.getpid()}, this one"
        with contextlib.suppress(OSError):
            if text := path.read_text(errors="replace").strip():
                return text
    return "its process is unknown"
