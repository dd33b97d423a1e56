"""``batchdigit doctor``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from batchdigit.cli import run_options as option
from batchdigit.cli.model_options import Which, with_model_options
from batchdigit.cli.options import (
    JsonOption,
    exit_codes,
    print_json,
    print_lines,
)
from batchdigit.cli.process import command
from batchdigit.errors import ExitCode
from batchdigit.job import Job
from batchdigit.places import STDOUT
from batchdigit.reports.formats import choose_format

DOCTOR_EXIT_CODES = exit_codes(
    ExitCode.CANNOT_WRITE,
    OK="no problem, though there may be warnings",
    FATAL="at least one problem",
)


@with_model_options()
def doctor(
    which: Which,
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE", help="Folders of images or image files that a run would read."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            readable=False,
            help="The report that a run would write.  [default: one in the working folder]",
            show_default=False,
        ),
    ] = STDOUT,
    report_format: option.Format = None,
    as_json: JsonOption = False,
) -> None:
    """Check that everything a run needs is there, and say what to do if it is not.

    Prints a line for each check: ok, warning or problem, the check's name, what was found, and
    the remedy. Nothing is changed, and no file is left behind.
    """
    with command("nothing was changed"):
        job = Job(
            source=tuple(source or ["."]),
            out=out,
            format=report_format,
            **which.keywords(),
        )
        choose_format(job.out, job.format)  # raises if the name does not say a format
        # Other commands need none of this.
        from batchdigit.doctor.examination import examine
        from batchdigit.doctor.findings import (
            PROBLEM,
            count,
            finding_line,
            findings_json,
            summary_lines,
        )

        findings = []
        with contextlib.closing(examine(job, with_source=bool(source))) as found:
            for finding in found:
                findings.append(finding)
                if not as_json:
                    print_lines([finding_line(finding)], "")
        if as_json:
            print_json(findings_json(findings), "")
        else:
            print_lines(summary_lines(findings), "")
        raise typer.Exit(ExitCode.FATAL if count(findings, PROBLEM) else ExitCode.OK)
