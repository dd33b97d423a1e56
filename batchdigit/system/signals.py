"""SIGINT, SIGTERM and SIGHUP: when they stop the program, and when they must wait."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

from batchdigit.errors import StoppedBySignal

STOP_SIGNALS = [  # Windows has no SIGHUP
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]

Hook = Callable[["sys.UnraisableHookArgs"], object]


class _Stopper:
    """A signal handler that raises StoppedBySignal once, as soon as nothing holds it back.

    After that, another SIGINT ends the program at once. Other signals change nothing, because a
    terminal that closes and a service manager may well send two.
    """

    def __init__(self) -> None:
        self.holds = 0
        self.stopped_by: int | None = None
        self.raised = False
        self.too_late = False

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        if self.stopped_by is None:
            self.stopped_by = signum
            if not self.raised and not self.holds:
                self.stop_if_due()
        elif signum == signal.SIGINT:
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + signum)

    def stop_if_due(self) -> None:
        if self.stopped_by is not None and not self.too_late:
            self.raised = True
            raise StoppedBySignal(self.stopped_by)


_stopper = _Stopper()  # one for the whole process, as signal handlers are


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise StoppedBySignal in the main thread on a signal, so that everything is cleaned up."""
    global _stopper  # noqa: PLW0603
    _stopper = _Stopper()
    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    # What the caller ignores (SIGHUP under nohup, for example) stays ignored.
    handled = [signum for signum in STOP_SIGNALS if before[signum] is not signal.SIG_IGN]
    for signum in handled:
        signal.signal(signum, _stopper)
    hook, sys.unraisablehook = sys.unraisablehook, _pass_over_stops(sys.unraisablehook)
    try:
        yield
    except BaseException as error:
        if _stopper.raised:
            # Release what the stop cut short now, while its destructors can still fail silently.
            _clear_frames(error)
        raise
    finally:
        sys.unraisablehook = hook
        for signum in handled:
            signal.signal(signum, before[signum])
        _stopper = _Stopper()


def _clear_frames(error: BaseException) -> None:
    """Clear the frames of ``error``, and those of the errors that it replaced or came from."""
    errors, seen = [error], set[int]()
    while errors:
        error = errors.pop()
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        others = (error.__context__, error.__cause__)
        errors += [other for other in others if other is not None and id(other) not in seen]


def _pass_over_stops(hook: Hook) -> Hook:
    """Do not print the traceback of a destructor that fails because of a stop.

    If Python swallowed the stop in the destructor, ``check_signals`` raises it once more. If the
    stop cut short the making of an object (a ``ZipFile``, say), its destructor misses attributes.
    Which errors come of that cannot be told, so after a stop none of a destructor is printed.
    """

    def pass_over(unraisable: sys.UnraisableHookArgs) -> None:
        if not (_stopper.raised or isinstance(unraisable.exc_value, StoppedBySignal)):
            hook(unraisable)

    return pass_over


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Make a signal wait until the block ends; leaving the block then raises StoppedBySignal.

    If the block ends with an exception, that one is raised, because it says more, and
    ``check_signals`` finds the signal later. Blocking signals would not be enough: it applies to
    one thread only, and Python runs the handler in the main thread, whichever thread got the
    signal.
    """
    stopper = _stopper
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopper.holds += 1
    try:
        yield
    finally:
        stopper.holds -= 1
    if not (stopper.raised or stopper.holds or sys.exc_info()[0]):
        stopper.stop_if_due()


def check_signals() -> None:
    """Raise StoppedBySignal if a signal has come.

    To be called from time to time: where Python swallows exceptions, as in destructors, what the
    handler raised is lost.
    """
    if threading.current_thread() is threading.main_thread():
        _stopper.stop_if_due()


def too_late_to_stop() -> None:
    """From here on no signal but a second SIGINT stops the program: its work is done."""
    _stopper.too_late = True


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Hold the signals as ``signals_held`` does, and block them for this thread.

    Processes that are started inside inherit that they are blocked. Ctrl-C and service managers
    signal every process at once, but the parent alone decides what follows.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        with signals_held():
            yield
        return
    with signals_held():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
