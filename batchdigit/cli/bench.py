"""``batchdigit bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from batchdigit.bench.job import BenchJob
from batchdigit.cli.bench_compare import EXIT_CODES as COMPARE_EXIT_CODES
from batchdigit.cli.bench_compare import compare
from batchdigit.cli.commands import Command, CommandGroup
from batchdigit.cli.model_options import Which, with_model_options
from batchdigit.cli.options import (
    ForceOption,
    JsonOption,
    ParentsOption,
    exit_codes,
    is_terminal,
    number_or_auto,
    print_json,
    print_lines,
    source_paths,
)
from batchdigit.cli.process import command
from batchdigit.errors import ExitCode, UsageError
from batchdigit.job import BACKENDS, PRECISIONS
from batchdigit.modelfiles.declaration import PREPROCESSING
from batchdigit.sources.apart import check_apart
from batchdigit.system.imports import loading
from batchdigit.system.parents import parents_made
from batchdigit.system.progress import show_progress

BENCH = BenchJob()  # the defaults, for --help
BENCH_EXIT_CODES = exit_codes(
    ExitCode.MODEL_REFUSED, ExitCode.NO_IMAGES, ExitCode.CANNOT_WRITE, OK="measured"
)
BENCH_EXAMPLES = """\b
Examples:
  batchdigit bench ./images
  batchdigit bench ./images --seconds 300 --out bench.json --plot bench.html
  batchdigit bench ./images --devices cpu,cuda --batch-sizes 256,4096 --workers 2,8
  batchdigit bench compare before.json after.json
"""


class _MeasureUnlessCompare(CommandGroup):
    """A group of commands that runs ``measure`` unless another one is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["measure", *args]
        return super().parse_args(ctx, args)


benches = typer.Typer(
    cls=_MeasureUnlessCompare,
    help="Measure how fast runs are on this machine, and compare two measurements.",
    rich_markup_mode=None,
)
benches.command(cls=Command, epilog=COMPARE_EXIT_CODES, no_args_is_help=True)(compare)


@benches.command(cls=Command, epilog=f"{BENCH_EXAMPLES}\n{BENCH_EXIT_CODES}")
@with_model_options(check=False)
def measure(
    which: Which,
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Folders of images or image files.  [default: the thousand packaged digits]",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", help="About how long the whole measurement takes.")
    ] = BENCH.seconds,
    backends: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help=f"Any of {', '.join(BACKENDS[1:])}.  [default: those installed]",
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Any of cpu, cuda, cuda:N, mps.  [default: those present]"
        ),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help=f"Any of {', '.join(PRECISIONS[:3])}.  [default: those that are fast here]",
        ),
    ] = None,
    batch_sizes: Annotated[
        str | None, typer.Option(metavar="N,...", help="Images in a batch; may include auto.")
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Worker processes that read; may include auto."),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PREPROCESSING),
            help="Which images the runs fit, as for batchdigit run.",
        ),
    ] = BENCH.preprocess,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            readable=False,
            help="Where to write every sample: .json, .csv or .parquet.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Where to draw the results: .html, .png or .svg."
        ),
    ] = None,
    force: ForceOption = False,
    parents: ParentsOption = False,
    as_json: JsonOption = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress, print no table.")
    ] = False,
) -> None:
    """Measure how fast runs over SOURCE are on this machine, and say what limits them.

    Whole runs try backends, devices, precisions, batch sizes and numbers of workers in turns, and
    their results are compared. The best setting is printed as a command to paste.
    """
    with (
        command("nothing was written", quiet=quiet) as ending,
        parents_made(out, plot, wanted=parents),
    ):
        job = BenchJob(
            source=source_paths(source or ()),
            **which.apart(),
            preprocess=preprocess,
            seconds=seconds,
            backends=_names("--backends", backends),
            devices=_names("--devices", devices),
            precisions=_names("--precisions", precisions),
            batch_sizes=_numbers("--batch-sizes", batch_sizes),
            workers=_numbers("--workers", workers),
        )
        with loading(
            "numpy, Pillow, OpenCV and msgspec", "numpy pillow opencv-python-headless msgspec"
        ):
            from batchdigit.bench.measuring.engine import run_command
            from batchdigit.bench.measuring.measure import measure as measure_all
            from batchdigit.bench.store import check_data_path, write_data
            from batchdigit.bench.views.plot import check_plot_path, draw
            from batchdigit.bench.views.table import measurement_lines

        for option, path in (("--out", out), ("--plot", plot)):
            check_apart(option, path, job.source)
        if out is not None:
            check_data_path(out, force=force)
        if plot is not None:
            check_plot_path(plot, force=force)
        shown = is_terminal(sys.stderr) and not quiet
        with show_progress(sys.stderr, quiet=not shown, unit="seconds") as progress:
            measurement = measure_all(job, on_progress=progress, say=progress.say)
        ending.after_signal = "the measurement is complete"
        if as_json:
            print_json(measurement.as_json(), "")
        elif not quiet:
            print_lines(
                measurement_lines(measurement, lambda setting: run_command(job, setting)), ""
            )
        # Printed first, so that a file that cannot be written does not cost the measurement.
        if out is not None:
            write_data(measurement, out, force=force)
        if plot is not None:
            draw(measurement, plot, force=force)


def _names(option: str, text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"{option} {text!r} names nothing", "name at least one, or leave it off")
    return names


def _numbers(option: str, text: str | None) -> tuple[int | None, ...]:
    return tuple(number_or_auto(option, name) for name in _names(option, text))
