"""What commands share: options, exit codes in their help, and printing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from batchdigit.cli.commands import MESSAGES, REPORT
from batchdigit.errors import EXIT_CODE_MEANINGS, ExitCode, OutputError, UsageError
from batchdigit.system.events import about
from batchdigit.system.paths import as_path
from batchdigit.system.standard_output import standard_output
from batchdigit.version import __version__

LOG = logging.getLogger(__name__)


def exit_codes(*codes: ExitCode, **own: str) -> str:
    """The end of a command's help: ``codes``, 0, 1, 2 and 128+N, each with what it means.

    ``own`` meanings, by the name of the code, stand instead of the common ones.
    """
    common = (ExitCode.OK, ExitCode.FATAL, ExitCode.USAGE)
    lines = [
        f"  {code:<6} {own.get(code.name, meaning)}"
        for code, meaning in EXIT_CODE_MEANINGS.items()
        if code in (*common, *codes)
    ]
    # \b keeps click from joining the lines that follow into one paragraph.
    return "\n".join(["\b", "Exit codes:", *lines, "  128+N  stopped by signal N"])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"batchdigit {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_print_version,
        is_eager=True,
        rich_help_panel=MESSAGES,
        help="Print the version and exit.",
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        "-f",
        rich_help_panel=REPORT,
        help="Replace files that batchdigit did not write, or that are read-only.",
    ),
]
ParentsOption = Annotated[
    bool,
    typer.Option(
        "--parents",
        rich_help_panel=REPORT,
        help="Make the folders of the files that are written, if they are missing.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", rich_help_panel=MESSAGES, help="Print one JSON object.")
]


def source_paths(source: Iterable[str]) -> tuple[Path, ...]:
    """The paths to read. Raises UsageError for an empty name, because Path("") is this folder."""
    return tuple(as_path("a source", text) for text in source)


def number_or_auto(option: str, text: str) -> int | None:
    """The number given to an option, or None for ``auto``. Raises UsageError."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is neither a whole number nor auto",
            f"write {'256' if option.startswith('--batch-size') else '2'} or auto",
        ) from error


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads the stream as it is written."""
    return stream is not None and stream.isatty()


def log(level: int, lines: Iterable[str], event: str = "", **values: Any) -> None:
    """Log ``lines``; a log in JSON gets the ``event`` and the ``values`` with the first line."""
    extra = about(event, **values) if event else {}
    for line in lines:
        LOG.log(level, "%s", line, extra=extra)
        extra = {}


def print_json(data: dict[str, Any], remedy: str) -> None:
    """Write one JSON object to standard output."""
    print_lines([json.dumps(data)], remedy)


def print_lines(lines: Iterable[str], remedy: str) -> None:
    """Write the result of a command to standard output."""
    stdout = standard_output()
    if stdout is None:
        raise OutputError("standard output is closed", remedy)
    try:
        for line in lines:
            typer.echo(line, file=stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write standard output: {error.strerror}", remedy) from error
