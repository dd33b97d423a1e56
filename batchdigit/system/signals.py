"""SIGINT, SIGTERM and SIGHUP: when they stop the program, and when they have to wait."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from batchdigit.errors import StoppedBySignal

STOP_SIGNALS = [  # Windows has no SIGHUP
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


Hook = Callable[["sys.UnraisableHookArgs"], object]


class _Stopper:
    """A handler that raises StoppedBySignal once, where nothing holds it back.

    After that, a further SIGINT ends the program at once, and other signals change nothing: a
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


_stopper = _Stopper()  # what the handlers are set to is of the whole process, and so is this


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise StoppedBySignal in the main thread on a signal, so that everything is tidied up."""
    global _stopper  # noqa: PLW0603
    _stopper = _Stopper()
    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    # What the caller ignores (nohup and SIGHUP) stays ignored.
    handled = [signum for signum in STOP_SIGNALS if before[signum] is not signal.SIG_IGN]
    for signum in handled:
        signal.signal(signum, _stopper)
    hook, sys.unraisablehook = sys.unraisablehook, _pass_over_stops(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for signum in handled:
            signal.signal(signum, before[signum])
        _stopper = _Stopper()


def _pass_over_stops(hook: Hook) -> Hook:
    """Print no traceback of a stop that Python swallows in a destructor: it is raised once more."""

    def pass_over(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, StoppedBySignal):
            hook(unraisable)

    return pass_over


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let a signal wait until the block ends, which then raises StoppedBySignal.

    Not while an exception is on its way, which says more; ``check_signals`` finds the signal then.
    Blocking signals would not do: that holds for one thread, and Python runs the handler in the
    main thread whichever thread got the signal.
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
    """Raise StoppedBySignal if a signal came.

    To be called now and then: where Python swallows exceptions, in a destructor for one, what the
    handler raised is lost.
    """
    if threading.current_thread() is threading.main_thread():
        _stopper.stop_if_due()


def too_late_to_stop() -> None:
    """From here on signals stop nothing but a second SIGINT: what they would stop is done."""
    _stopper.too_late = True


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Hold the signals and, for this thread, block them.

    Processes started within inherit the blocking: a Ctrl-C or a service manager signals every
    process at once; the parent alone decides what follows.
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
