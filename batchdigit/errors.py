"""Every error this package raises on purpose, and the exit code each one ends with.

    BatchdigitError            1    fatal: the program cannot continue
    ├── UsageError             2    an option or a combination of options makes no sense
    ├── CheckpointError       65    a model file that cannot or must not be loaded
    ├── SourceError           66    no images to read
    ├── OutputError           73    the report cannot be written
    ├── GoneError             74    too many files of the last report are gone
    ├── OutputBusyError       75    another run is writing the report
    ├── DeviceError            1    the device that was asked for is not there
    ├── WorkerError            1    processes that read cannot be started, or cannot be ended
    └── AccountingError        1    rows and images do not add up: a bug, nothing is published
    ImageError                 –    one image could not be used: becomes an error row, never fatal
    StoppedBySignal        128+N    SIGINT, SIGTERM or SIGHUP asked the program to end

The codes are those of BSD's sysexits.h where it has one that fits (65 EX_DATAERR, 66 EX_NOINPUT,
73 EX_CANTCREAT, 74 EX_IOERR, 75 EX_TEMPFAIL).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from enum import IntEnum

MAX_PROBLEM = 5_000  # characters; a path alone may have 4,096 bytes


class ExitCode(IntEnum):
    """What the process tells its caller."""

    OK = 0
    FATAL = 1
    USAGE = 2
    BAD_IMAGES = 3
    GATE = 4
    MODEL_REFUSED = 65
    NO_IMAGES = 66
    CANNOT_WRITE = 73
    FILES_GONE = 74
    BUSY = 75


EXIT_CODE_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "finished; no more rows are errors than --max-bad tolerates",
    ExitCode.BAD_IMAGES: "finished; more rows are errors than --max-bad tolerates",
    ExitCode.GATE: "a gate that was asked for does not hold",
    ExitCode.FATAL: "fatal error",
    ExitCode.USAGE: "wrong usage",
    ExitCode.MODEL_REFUSED: "the model file is missing, or was refused",
    ExitCode.NO_IMAGES: "no images found, or a source is missing",
    ExitCode.CANNOT_WRITE: "an output cannot be written",
    ExitCode.FILES_GONE: "more files of the last report are gone than --max-gone allows",
    ExitCode.BUSY: "another run is writing this output",
}


class BatchdigitError(Exception):
    """A problem and its remedy, each one line.

    ``str(error)`` is ``problem; remedy`` and never holds a line break.
    """

    exit_code: int = ExitCode.FATAL

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = one_line(problem, MAX_PROBLEM)
        self.remedy = one_line(remedy, MAX_PROBLEM)
        super().__init__("; ".join(part for part in (self.problem, self.remedy) if part))


class UsageError(BatchdigitError):
    """An option or a combination of options makes no sense."""

    exit_code = ExitCode.USAGE


class CheckpointError(BatchdigitError):
    """A model file that cannot or must not be loaded."""

    exit_code = ExitCode.MODEL_REFUSED


class SourceError(BatchdigitError):
    """A source that is missing or unreadable, or that holds no images."""

    exit_code = ExitCode.NO_IMAGES


class OutputError(BatchdigitError):
    """The report cannot be written; what was there before is untouched."""

    exit_code = ExitCode.CANNOT_WRITE


class GoneError(BatchdigitError):
    """Too many files of the last report are gone; nothing is published.

    ``counts`` says how the images that were found compare with those of the last report, as far as
    that is known: how many are ``unchanged``, ``new``, ``changed``, ``gone`` and ``retried``.
    """

    exit_code = ExitCode.FILES_GONE

    def __init__(
        self, problem: str, remedy: str = "", counts: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(problem, remedy)
        self.counts = dict(counts or {})


class OutputBusyError(BatchdigitError):
    """Another run is writing the report."""

    exit_code = ExitCode.BUSY


class DeviceError(BatchdigitError):
    """The device that was asked for is not there or has too little memory."""


class WorkerError(BatchdigitError):
    """Processes that read images cannot be started, or cannot be ended."""


class AccountingError(BatchdigitError):
    """Rows and images do not add up. That is always a bug, and nothing is published."""


class ImageError(Exception):
    """One image could not be used; it becomes an error row.

    ``stage`` says what failed (``read``, ``decode``, ``unsupported``, ``too-large``, ``timeout``,
    ``blank``) and becomes the first word of the row's ``error``.
    """

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(stage, message)
        self.stage = stage
        self.message = one_line(message)


class StoppedBySignal(BaseException):
    """Raised by signal handlers; a BaseException, so that no ``except Exception`` catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signal_name = signal.Signals(signum).name
        self.exit_code = 128 + signum


def remedy_for(error: BaseException, otherwise: str) -> str:
    """What helps against ``error`` where this process or machine has run out of something."""
    number = getattr(error, "errno", None)
    if number == errno.EMFILE or os.strerror(errno.EMFILE) in str(error):
        return "let this process open more files (ulimit -n)"
    if number == errno.ENFILE:
        return "let this machine open more files"
    return otherwise


def one_line(text: str, limit: int = 300) -> str:
    """``text`` as one line of printable characters, cut to ``limit`` of them."""
    printable = text
    if not text.isprintable():
        printable = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
