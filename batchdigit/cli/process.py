"""The process around a command: its standard streams and its exit code."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from batchdigit.cli.messages import log_to_file, show_messages
from batchdigit.errors import BatchdigitError, ExitCode, StoppedBySignal
from batchdigit.system.events import about
from batchdigit.system.signals import signals_as_exceptions
from batchdigit.system.standard_output import standard_output

_LOG = logging.getLogger(__name__)


def occupy_standard_streams() -> None:
    """Open the null device for standard streams that the caller closed.

    Otherwise the next file to be opened, perhaps the report, would get one of their descriptors,
    and with it whatever C code prints.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one


@dataclass
class Ending:
    """How a command ends: what to say if a signal stops it now, and where else messages go."""

    after_signal: str
    logs: contextlib.ExitStack

    def log_to(self, path: Path, log_format: str) -> None:
        """Append all messages from here on to a file, including the last one."""
        self.logs.enter_context(log_to_file(path, log_format))


@contextlib.contextmanager
def command(after_signal: str, *, quiet: bool = False, verbose: bool = False) -> Iterator[Ending]:
    """Run a command: show its messages, and end it as the errors module documents.

    Whatever goes wrong becomes one line and an exit code, without a traceback.
    """
    if not gc.isenabled():  # __main__ disabled it for the start, which is over
        gc.freeze()  # what exists now stays, and need not be searched
        gc.enable()
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    with show_messages(level), contextlib.ExitStack() as logs:
        ending = Ending(after_signal, logs)
        started = time.monotonic()

        def say(problem: str, exit_code: int, **values: Any) -> None:
            values["seconds"] = round(time.monotonic() - started, 3)
            event = "stopped" if "signal" in values else "error"
            _LOG.error("%s", problem, extra=about(event, exit_code=int(exit_code), **values))

        try:
            with signals_as_exceptions():
                _check_working_folder()
                yield ending
        except BatchdigitError as error:
            give_up_stdout()
            say(str(error), error.exit_code, **getattr(error, "counts", {}))
            raise typer.Exit(error.exit_code) from error
        except StoppedBySignal as stop:
            # If the signal came between two lines that end a process, Python would ask that
            # process to end, which it blocks, and would wait for it.
            for child in multiprocessing.active_children():
                child.kill()
            say(
                f"stopped by {stop.signal_name}; {ending.after_signal}",
                stop.exit_code,
                signal=stop.signal_name,
            )
            raise typer.Exit(stop.exit_code) from stop
        except MemoryError as error:
            say("there is not enough memory; free some, or allow more", ExitCode.FATAL)
            raise typer.Exit(ExitCode.FATAL) from error
        except BrokenPipeError as error:
            give_up_stdout()
            raise typer.Exit(128 + 13) from error  # as a shell reports SIGPIPE
        except OSError as error:
            say(f"{error}; fix this, then run again", ExitCode.FATAL)
            raise typer.Exit(ExitCode.FATAL) from error


def _check_working_folder() -> None:
    """Raise BatchdigitError if there is none, because PyTorch's libraries would end the process."""
    try:
        os.getcwd()
    except OSError as error:
        raise BatchdigitError(
            f"the working folder is gone ({error.strerror})", "change to another folder"
        ) from error


def give_up_stdout() -> None:
    """Make sure that what Python still writes to standard output at its end cannot fail.

    After a full disk or a closed pipe, writing the rest of the buffer would fail once more and
    turn the exit code into 120.
    """
    stdout = standard_output()
    if stdout is None:
        return
    try:
        stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
