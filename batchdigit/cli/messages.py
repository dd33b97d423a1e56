"""Messages: records of the logger ``batchdigit``, on standard error and in a log file.

INFO is what a run always says, DEBUG is what ``--verbose`` adds, and WARNING is what may surprise.
ERROR is the one line that says what is wrong. ``--quiet`` leaves only that, and what must not go
unsaid (``extra={"always": True}``).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from io import TextIOWrapper
from pathlib import Path

from batchdigit.errors import OutputError, UsageError, one_line
from batchdigit.system.regular import head, open_to_append

LOG_FORMATS = ("text", "json")
MAX_MESSAGE = 10_000
BEGINNING = 1_024  # bytes of a file that show whether it is text

_LOGGER = logging.getLogger("batchdigit")


@contextlib.contextmanager
def show_messages(level: int = logging.INFO) -> Iterator[None]:
    """Print records of at least ``level`` to standard error while the block runs."""
    with _handling(_StandardError(level)):
        yield


@contextlib.contextmanager
def log_to_file(path: Path, log_format: str = "text") -> Iterator[None]:
    """Append all records to ``path``, as text or one JSON object a line.

    Raises UsageError for another format, and OutputError if the file cannot be opened, or holds
    something that is no text. If it cannot be written later, because the disk is full, that is
    said once on standard error, and the run continues.
    """
    if log_format not in LOG_FORMATS:
        raise UsageError(
            f"--log-format {log_format!r} is unknown", f"choose from {', '.join(LOG_FORMATS)}"
        )
    remedy = "choose another place for --log-file"
    with contextlib.suppress(OSError):  # there is nothing, or no regular file
        if b"\0" in head(path, BEGINNING):
            raise OutputError(f"{path} holds no text, but a log would be added to it", remedy)
    try:
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        unread = "it is a FIFO that nobody reads" if error.errno == errno.ENXIO else ""
        if error.errno == errno.ENOENT:
            remedy = "create its folder first, or add --parents"
        raise OutputError(
            f"cannot write the log {path}: {unread or error.strerror or error}", remedy
        ) from error
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    with _handling(handler):
        yield


@contextlib.contextmanager
def _handling(handler: logging.Handler) -> Iterator[None]:
    level_before = _LOGGER.level
    _LOGGER.setLevel(logging.DEBUG)
    _LOGGER.addHandler(handler)
    try:
        yield
    finally:
        _LOGGER.setLevel(level_before)
        _LOGGER.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


class _StandardError(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__()
        self._least = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print the record."""
        return record.levelno >= self._least or getattr(record, "always", False)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message. If standard error does not take it, nothing fails."""
        text = one_line(record.getMessage(), MAX_MESSAGE)
        _print_error(f"batchdigit: {text}" if record.levelno >= logging.WARNING else text)


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


class _LogFile(logging.FileHandler):
    _told = False

    def _open(self) -> TextIOWrapper:
        """Open it without waiting for whoever reads a FIFO."""
        return TextIOWrapper(
            open(open_to_append(Path(self.baseFilename)), "ab"),
            encoding=self.encoding,
            errors=self.errors,
            write_through=True,
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say it once, and go on: the report matters more than the log.

        It is said with ``--quiet`` too, for then nobody hears the rest.
        """
        if not self._told:
            self._told = True
            error = sys.exc_info()[1]
            why = (error.strerror if isinstance(error, OSError) else None) or error
            text = f"cannot write the log {self.baseFilename} any more: {why}; the run goes on"
            _print_error(f"batchdigit: {one_line(text, MAX_MESSAGE)}")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A line like ``2026-01-31T03:15:00.123+00:00 INFO [4242] message``."""
        text = one_line(record.getMessage(), MAX_MESSAGE)
        return f"{_time(record)} {record.levelname} [{record.process}] {text}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A JSON object: ``time``, ``level``, ``process``, ``message``, and any ``fields``.

        These are what :func:`batchdigit.system.events.about` says of the record.
        """
        return json.dumps(
            {
                "time": _time(record),
                "level": record.levelname.lower(),
                "process": record.process,
                "message": one_line(record.getMessage(), MAX_MESSAGE),
                **getattr(record, "fields", {}),
            }
        )


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds")
