"""Processes that this one starts: how they begin, answer and end."""

from __future__ import annotations

import contextlib
import ctypes
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from batchdigit.errors import WorkerError
from batchdigit.system.new_process import NewProcess
from batchdigit.system.signals import STOP_SIGNALS, signals_blocked
from batchdigit.system.working_folder import starting_elsewhere

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_DIE = 2.0
MAX_LEFT_BEHIND = 8

_PR_SET_PDEATHSIG = 1  # an option of Linux's prctl
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h

Process = BaseProcess | NewProcess
_left_behind: list[Process] = []

memory_limit: tuple[int, int, int] | None = None
"""The limits that :func:`limit_memory` has set on the bytes that this process may write to.

They are the one inside :func:`reserve_kept`, the one outside, and the hard limit.
"""
BYTES_IN_RESERVE = 64 << 20  # for some threads: a stack takes 8 MiB, a heap little

_origins: dict[int, tuple[int, bool]] = {}
"""The parent of this process, by its own number (a fork inherits those of others), and whether the
parent's main thread has started it: another thread may end before its process does."""

Result = TypeVar("Result")


# What the parent does ---------------------------------------------------------------------------


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Use it around the start of processes, until whoever ends them knows about them.

    Signals wait until the block ends, and the processes inherit that they are blocked. Nothing in
    the working folder can take the place of what they import.
    """
    with starting_elsewhere(), signals_blocked(), warnings.catch_warnings():
        # Python 3.12 and later warn about fork() beside any thread. The idle threads of a BLAS
        # library are harmless, and so are the threads that compute or watch here, because the
        # processes that are started beside them only read files.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        yield


def start_with_pipe(
    start_method: str,
    target: Callable[..., object],
    arguments: tuple[Any, ...],
    *,
    duplex: bool = False,
    daemon: bool = True,
) -> tuple[Process, Connection]:
    """Start ``target(pipe, *arguments)`` in a process; returns it and the other end of the pipe.

    If the ``start_method`` is not ``fork``, the process begins afresh. Without ``duplex`` the
    process can only send. Nobody but the process holds its end, so the pipe ends when the process
    does. A fork that is a ``daemon`` may not start processes itself. To be called inside
    :func:`starting_processes`. Raises OSError when no process can be started, PicklingError when
    one that begins afresh cannot be sent its work.
    """
    ours, theirs = multiprocessing.Pipe(duplex)
    in_main_thread = threading.current_thread() is threading.main_thread()
    work = (theirs, os.getpid(), in_main_thread, target, arguments)
    try:
        process: Process
        if start_method == "fork" or sys.platform == "win32":
            context: Any = multiprocessing.get_context(start_method)
            fork = context.Process(target=_begin, args=work, daemon=daemon)
            fork.start()
            process = fork
        else:
            process = NewProcess(_begin, work)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def answers_within(pipe: Connection, seconds: float) -> bool:
    """Whether there is something to receive, or the pipe has ended, within ``seconds``.

    Time for which this process is stopped, by Ctrl-Z, for example, does not count.
    """
    looks = math.ceil(seconds / SECONDS_BETWEEN_LOOKS)
    return any(pipe.poll(seconds / looks) for _ in range(looks))


def call_apart(function: Callable[..., Result], *arguments: Any, seconds: float) -> Result:
    """What ``function(*arguments)`` returns in a process of its own, which is then killed.

    Starts no thread, so processes can still be forked safely afterwards. What the function prints
    is discarded. The result must be picklable and so, except on Linux, where the process is a fork,
    must the function and its arguments.

    Raises TimeoutError when there is no result within ``seconds``, ChildProcessError with
    :func:`how_it_ended` when the process ends without one (an exception ends it, too), and another
    OSError when no process can be started.
    """
    # A fork has what this process has imported; on other systems forking is not safe.
    method = "fork" if sys.platform == "linux" else "spawn"
    with contextlib.ExitStack() as stack:
        with starting_processes():
            process, pipe = start_with_pipe(method, _answer, (function, arguments), daemon=False)
            stack.callback(_end, process, pipe)
        if not answers_within(pipe, seconds):
            raise TimeoutError(f"no answer within {seconds:g} seconds")
        try:
            result: Result = pipe.recv()
        except EOFError:
            process.join(SECONDS_TO_DIE)
            raise ChildProcessError(how_it_ended(process.exitcode)) from None
        return result


def _end(process: Process, pipe: Connection) -> None:
    with signals_blocked():
        pipe.close()
        end_processes([process])


def end_processes(processes: Sequence[Process]) -> None:
    """Kill processes that hold nothing but files open for reading, and wait until they end.

    A process that waits for a file system that does not answer, because its server is gone, for
    example, cannot be ended by any signal. It is left behind: this process does not wait for it
    when it ends itself.
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
    """Raise WorkerError if so many processes are stuck on files that starting more is pointless."""
    _left_behind[:] = [process for process in _left_behind if process.is_alive()]
    if len(_left_behind) >= MAX_LEFT_BEHIND:
        raise WorkerError(
            f"{len(_left_behind)} processes wait for files that do not answer, and cannot be ended",
            "see whether a file system of the source is gone, then run the same command again",
        )


def how_it_ended(exit_code: int | None) -> str:
    """How a process ended, in words: the name of a signal, such as SIGKILL, or its exit code."""
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


# What the process itself does -------------------------------------------------------------------


def _begin(
    pipe: Connection,
    parent: int,
    in_main_thread: bool,
    target: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    _origins[os.getpid()] = parent, in_main_thread
    target(pipe, *arguments)


def obey_parent() -> None:
    """Call it first in a process: ignore the signals that stop a program, end with the parent.

    The kernel sees to the latter, on Linux only, and if the main thread has started the process:
    to the kernel, it is the thread that is the parent. Otherwise a thread may run
    :func:`end_with_parent`.
    """
    if hasattr(signal, "pthread_sigmask"):  # the parent decides what follows one
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    parent, in_main_thread = _origin()
    if sys.platform == "linux" and in_main_thread:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)
    _left_behind.clear()  # a fork has its parent's list, and may not ask about its siblings


def _origin() -> tuple[int, bool]:
    return _origins.get(os.getpid(), (os.getppid(), True))


def end_with_parent(ppid: int | None = None) -> None:
    """End this process as soon as its parent, the process ``ppid``, has ended. Never returns.

    Without ``ppid`` the parent is the process that has started this one.
    """
    ppid = _origin()[0] if ppid is None else ppid
    while os.getppid() == ppid:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def limit_memory(extra: int) -> None:
    """Let this process take ``extra`` bytes beyond those that it has; what asks for more fails.

    On Linux only, whose limit counts what the process itself may write to (``RLIMIT_DATA``), and
    not the gigabytes of libraries. Some more is left for what is done outside of
    :func:`reserve_kept`.
    """
    global memory_limit  # noqa: PLW0603
    with contextlib.suppress(OSError, ValueError, IndexError, ImportError, OverflowError):
        import resource

        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        taken = int(status.partition("VmData:")[2].split()[0]) << 10
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = taken + extra
        with_reserve = limit + BYTES_IN_RESERVE
        if most != resource.RLIM_INFINITY:
            with_reserve = min(with_reserve, most)
        if limit <= with_reserve:
            resource.setrlimit(resource.RLIMIT_DATA, (with_reserve, most))
            memory_limit = limit, with_reserve, most


@contextlib.contextmanager
def reserve_kept() -> Iterator[None]:
    """Leave alone, inside, what limit_memory has left for later.

    Work that has run out of memory may leave none: what it frees is seldom given back to the
    system. A thread that then starts to send what was done dies at once, and Python would wait for
    it for ever (CPython's issue 140746).
    """
    if memory_limit is None:
        yield
        return
    import resource

    limit, with_reserve, most = memory_limit
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (with_reserve, most))


def discard_output() -> None:
    """Send to the null device what this process prints, C code included, from here on."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    if nowhere > 2:
        os.close(nowhere)


def keep_memory() -> None:
    """Make glibc keep freed memory rather than return it to the system.

    The layers of a network ask for the same megabytes again and again. On a CPU, PyTorch's layers
    take a third longer if the system has to find and clear that memory each time. (mallopt(3);
    other C libraries have no such setting.)
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _answer(pipe: Connection, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    obey_parent()
    discard_output()
    pipe.send(function(*arguments))
