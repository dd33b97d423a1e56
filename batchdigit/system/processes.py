"""Processes that this one starts: how they begin, and how they end."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

from batchdigit.errors import WorkerError
from batchdigit.system.signals import STOP_SIGNALS, signals_blocked

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_DIE = 2.0
MOST_LEFT_BEHIND = 8

_PR_SET_PDEATHSIG = 1  # of Linux' prctl
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_left_behind: list[BaseProcess] = []


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


def end_with_parent(ppid: int) -> None:
    """End this process when its parent, the process ``ppid``, is no more; never returns."""
    parent = multiprocessing.parent_process()
    # The first tells for forked processes, the second for a forkserver's.
    while os.getppid() == ppid and (parent is None or parent.is_alive()):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


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


def keep_memory() -> None:
    """Let glibc keep what is freed rather than return it to the system.

    The layers of a network ask for the same megabytes again and again: PyTorch's take a third
    longer on a CPU if each time the system has to find and clear them. (mallopt(3); other
    C libraries have no such setting.)
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
