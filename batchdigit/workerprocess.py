"""Processes that work on images: how they begin, how long one file may take them, how they end."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import cv2

from batchdigit.errors import WorkerError
from batchdigit.signals import STOP_SIGNALS, signals_blocked

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_DIE = 2.0
SECONDS_TO_START = 60.0
MOST_LEFT_BEHIND = 8

_PR_SET_PDEATHSIG = 1  # of Linux' prctl
_left_behind: list[BaseProcess] = []


class _OneThread:
    """Keep OpenCV to one thread, since processes share the cores, and put back what was there.

    A context manager over a setting of the whole process: those who are in it at the same time
    share it. Processes are forked inside: a copy of threads that are not there hangs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = cv2.getNumThreads()
                _use_one_thread()
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.setNumThreads(self._before)


one_thread = _OneThread()


def _use_one_thread() -> None:
    if cv2.getNumThreads() > 1:  # a forked process must not even ask for one
        cv2.setNumThreads(1)


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Around the start of processes: signals wait until whoever ends them knows them."""
    with signals_blocked(), warnings.catch_warnings():
        # Python 3.12 and later warn of fork() beside any thread, also beside the idle ones of a
        # BLAS library, which are safe, as are those that compute or watch here: those that are
        # started only read files.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        yield


def obey_parent() -> None:
    """Be deaf to the signals that stop a program, and on Linux end with the parent."""
    if hasattr(signal, "pthread_sigmask"):  # a forkserver's children inherit from that server
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def settle_in() -> None:
    """To be called first in a process that reads: be deaf to the run's signals, and end with it."""
    obey_parent()
    # What it cannot be ended of must not hold open what the run was to write to.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    # When memory runs out, the kernel shall end a process that can be replaced.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if resource is not None:  # a decoder that crashes shall not leave gigabytes of memory on disk
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _use_one_thread()
    # Beside the kernel, which knows nothing of the parent of those that a forkserver starts; the
    # thread alone would not do, for it does not run while C code holds the interpreter.
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()


def end_with_parent(ppid: int) -> None:
    """End this process when its parent, the process ``ppid``, is no more; never returns."""
    parent = multiprocessing.parent_process()
    # The first tells for forked processes, the second for a forkserver's.
    while os.getppid() == ppid and (parent is None or parent.is_alive()):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


class FileClocks:
    """At which file each of several processes is, and since when, in memory that they share.

    Without a ``start_method`` it is for this process alone. Times are those of
    ``time.monotonic()``, which all processes share.
    """

    def __init__(self, count: int, start_method: str | None) -> None:
        self._cells = _shared_cells(2 * count, start_method)
        for place in range(count):  # a process that does not even start is stuck as well
            self._cells[2 * place] = time.monotonic() + SECONDS_TO_START

    def start(self, place: int, index: int) -> None:
        """The process at ``place`` begins the file at ``index``."""
        self._cells[2 * place + 1] = index
        self._cells[2 * place] = time.monotonic()

    def stop(self, place: int) -> None:
        """The process at ``place`` is at no file."""
        self._cells[2 * place] = 0.0

    def file(self, place: int) -> int | None:
        """At which file the process at ``place`` is, or was when it died."""
        at_work = 0 < self._cells[2 * place] <= time.monotonic()
        return int(self._cells[2 * place + 1]) if at_work else None

    def is_idle(self, place: int) -> bool:
        """Whether the process at ``place`` has begun and is at no file."""
        return bool(self._cells[2 * place] == 0.0)

    def is_stuck(self, place: int, seconds: float, awake_since: float) -> bool:
        """Whether the process is at a file for longer than ``seconds`` in which all were awake."""
        since = self._cells[2 * place]
        return bool(since > 0) and time.monotonic() - max(since, awake_since) > seconds


def _shared_cells(count: int, start_method: str | None) -> Any:
    """Zeros, float64[count], in memory that this process shares with those that it starts."""
    if start_method is None:
        return [0.0] * count
    if start_method == "fork":
        # Not in a file: where /dev/shm is full, writing to one there is a bus error.
        return memoryview(mmap.mmap(-1, 8 * count)).cast("d")
    context: Any = multiprocessing.get_context(start_method)
    return context.RawArray("d", count)


def end_processes(processes: list[BaseProcess]) -> None:
    """Kill processes that read, and see them end.

    They hold nothing but files open for reading. One that waits for a file system that does not
    answer, that of a server that is gone, ends by no signal: it is left behind, and this process
    does not wait for it when it ends itself.
    """
    for process in processes:
        process.kill()
    deadline = time.monotonic() + SECONDS_TO_DIE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive() and process not in _left_behind:
            _left_behind.append(process)
            multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


def check_left_behind() -> None:
    """Raise WorkerError when so many processes wait for files that one more is no use."""
    _left_behind[:] = [process for process in _left_behind if process.is_alive()]
    if len(_left_behind) >= MOST_LEFT_BEHIND:
        raise WorkerError(
            f"{len(_left_behind)} processes wait for files that do not answer, and cannot be ended",
            "see whether a file system of the source is gone, then run the same command again",
        )
