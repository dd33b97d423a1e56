"""``batchdigit bench compare``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from batchdigit.cli.options import JsonOption, exit_codes, print_json, print_lines
from batchdigit.cli.process import command
from batchdigit.errors import ExitCode, UsageError
from batchdigit.system.imports import loading

EXIT_CODES = exit_codes(
    ExitCode.GATE,
    ExitCode.CANNOT_WRITE,
    OK="nothing got slower by more than --fail-over beyond the noise",
    GATE="something did, or no longer runs",
    USAGE="wrong usage, or a file that is not a measurement",
)
_PERCENT = re.compile(r"(\d{1,4}(?:\.\d{1,6})?)%", re.ASCII)
_FILE = "A JSON file written by batchdigit bench."


def compare(
    old: Annotated[Path, typer.Argument(metavar="A.json", readable=False, help=_FILE)],
    new: Annotated[
        Path,
        typer.Argument(metavar="B.json", readable=False, help="A later file of the same kind."),
    ],
    fail_over: Annotated[
        str,
        typer.Option(
            "--fail-over",
            metavar="P%",
            help="Exit with 4 if any rate fell by more than this beyond the noise.",
        ),
    ] = "10%",
    as_json: JsonOption = False,
) -> None:
    """Say what got faster or slower between two measurements, beyond the noise.

    Settings that were measured both times are compared one by one and together. A difference
    counts as noise if it is below 7% or within the scatter of the samples.
    """
    with command("nothing was changed"):
        limit = _share(fail_over)
        with loading("numpy and msgspec", "numpy msgspec"):
            from batchdigit.bench.analysis import compare as comparing
            from batchdigit.bench.store import read_measurement
            from batchdigit.bench.views.comparison_lines import comparison_lines

        comparison = comparing.compare(read_measurement(old), read_measurement(new), limit)
        if as_json:
            print_json(comparison.as_json(), "")
        else:
            print_lines(comparison_lines(comparison), "")
        raise typer.Exit(ExitCode.GATE if comparison.failed else ExitCode.OK)


def _share(text: str) -> float:
    """``10%`` as 0.1."""
    found = _PERCENT.fullmatch(text)
    if found is None or (share := float(found[1]) / 100) > 10:
        raise UsageError(
            f"--fail-over {text!r} is not a percentage from 0% to 1000%", "write 10%, for example"
        )
    return share
