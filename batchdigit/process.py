"""The process around a command: its signals, its standard streams, its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import typer

from batchdigit.errors import STOP_SIGNALS, BatchdigitError, StoppedBySignal


def occupy_standard_streams() -> None:
    """Open the null device for standard streams that the caller closed.

    Or the next file that is opened, a report for one, would get their descriptors, and with them
    whatever C code prints.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one


@contextlib.contextmanager
def exit_codes(after_signal: str) -> Iterator[None]:
    """End the program as the errors module documents, with one line and no traceback."""
    try:
        with _signals_as_exceptions():
            yield
    except BatchdigitError as error:
        _give_up_stdout()
        say(f"batchdigit: {error}")
        raise typer.Exit(error.exit_code) from error
    except StoppedBySignal as stop:
        say(f"batchdigit: stopped by {stop.signal_name}; {after_signal}")
        raise typer.Exit(stop.exit_code) from stop
    except BrokenPipeError as error:
        _give_up_stdout()
        raise typer.Exit(128 + 13) from error  # as a shell reports SIGPIPE


def _give_up_stdout() -> None:
    """Let nothing fail that Python still wants to write to standard output when it ends.

    After a full disk or a closed pipe, what is left in the buffer would fail once more then, and
    turn the exit code into 120.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Raise StoppedBySignal on SIGINT, SIGTERM and SIGHUP, so that everything is tidied up."""

    def stop(signum: int, _frame: object) -> None:
        raise StoppedBySignal(signum)

    before = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    # What the caller ignores (nohup and SIGHUP) stays ignored.
    handled = [signum for signum in STOP_SIGNALS if before[signum] is not signal.SIG_IGN]
    for signum in handled:
        signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum in handled:
            signal.signal(signum, before[signum])


def say(line: str) -> None:
    """Print a line to standard error, if that takes it."""
    with contextlib.suppress(OSError):  # a message that cannot be shown is no failure
        typer.echo(line, err=True)
