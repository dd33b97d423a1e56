"""The command line: parse, call one function of the library, print, exit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from batchdigit.errors import (
    EXIT_CODE_MEANINGS,
    ExitCode,
    OutputError,
    UsageError,
)
from batchdigit.filenames import escape_filename
from batchdigit.process import exit_codes, occupy_standard_streams, say
from batchdigit.progress import show_progress
from batchdigit.records import FORMATS, PRECISIONS, STDOUT, Job, RunSummary, Tolerance, TrainJob
from batchdigit.version import __version__

if TYPE_CHECKING:
    from batchdigit.train import TrainSummary

RUN = Job(source=(Path("SOURCE"),))  # the defaults, for --help
TRAIN = TrainJob(data=Path("DIR"), out=Path("FILE"))

# \b keeps click from filling the lines that follow into one paragraph.
EXIT_CODES = "\b\nExit codes:\n" + "\n".join(
    [f"  {code:<6} {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items()]
    + ["  128+N  stopped by signal N"]
)
RUN_EXAMPLES = """\b
Examples:
  batchdigit run ./images --out preds.csv
  batchdigit run scans/ more/7.png --model CNN.pt --topk 3 --out preds.parquet
  batchdigit run ./images --out - | cut -d, -f1,2
"""

app = typer.Typer(
    help="Which digit does each image show? Batch inference with a CNN over folders of images.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    # Plain text: it is as readable in a log, and rich takes longer to import than all the rest.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the program and exit."""
    occupy_standard_streams()
    app(prog_name="batchdigit")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"batchdigit {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
]


@app.callback()
def _program(_version: VersionOption = False) -> None:
    """Options of the program itself; they act in their callbacks."""


@app.command(epilog=f"{RUN_EXAMPLES}\n{EXIT_CODES}", no_args_is_help=True)
def run(
    source: Annotated[
        list[str],
        typer.Argument(help="Folders of images (read with their subfolders) or image files."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            readable=False,
            help="The report; - is standard output. Replaced only once the new one is complete.",
        ),
    ] = RUN.out,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE",
            readable=False,
            help="A CNN's state dict.  [default: the packaged one]",
        ),
    ] = None,
    report_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="[default: by the extension of --out, also with .gz; csv for standard output]",
        ),
    ] = RUN.format,
    topk: Annotated[
        int, typer.Option(metavar="K", help="Report the K likeliest digits.")
    ] = RUN.topk,
    probs: Annotated[
        bool, typer.Option("--probs", help="Add the probability of every digit.")
    ] = RUN.probs,
    batch_size: Annotated[
        str, typer.Option("--batch-size", "-b", metavar="N|auto", help="Images in a batch.")
    ] = "auto",
    workers: Annotated[
        str,
        typer.Option(
            "--workers", "-j", metavar="N|auto", help="Processes that read; 0 is none but this."
        ),
    ] = "auto",
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="What computes.")
    ] = RUN.device,
    precision: Annotated[
        str, typer.Option(metavar="|".join(PRECISIONS), help="What the network computes in.")
    ] = RUN.precision,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Read linked files, enter linked folders.")
    ] = RUN.follow_symlinks,
    max_bad: Annotated[
        str,
        typer.Option(
            "--max-bad", metavar="N|P%", help="Error rows to tolerate before the exit code is 3."
        ),
    ] = str(RUN.max_bad),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as one JSON object.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing unless something is wrong.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print settings, times, ignored files.")
    ] = False,
    _version: VersionOption = False,
) -> None:
    """Label every image below SOURCE and write a report with a row for each.

    Progress and messages go to standard error.
    """
    with exit_codes(f"{out} is as it was" if out != STDOUT else "the rows are not complete"):
        if "" in source:
            raise UsageError("a source is an empty name", "name a folder, or . for this one")
        job = Job(
            source=tuple(map(Path, source)),
            out=out,
            model=model or RUN.model,
            format=report_format,
            topk=topk,
            probs=probs,
            batch_size=_number_or_auto("--batch-size", batch_size),
            workers=_number_or_auto("--workers", workers),
            device=device,
            precision=precision,
            follow_symlinks=follow_symlinks,
            max_bad=Tolerance.parse(max_bad),
        )
        if out == STDOUT and as_json:
            raise UsageError(
                "--json and the report would both go to standard output",
                "give --out a file, or leave --json off",
            )
        if out == STDOUT and job.report_format[0] == "parquet" and _is_terminal(sys.stdout):
            raise UsageError(
                "Parquet is not for a terminal", "redirect standard output, or give --out a file"
            )
        from batchdigit import pipeline  # it imports torch, which takes seconds

        with show_progress(sys.stderr, quiet=quiet) as progress:
            summary = pipeline.run(job, on_progress=progress)
    with exit_codes("the report is complete"):
        _print_summary(summary, job, quiet=quiet, verbose=verbose)
        if as_json:
            _print_json(summary)
        raise typer.Exit(summary.exit_code)


@app.command(epilog=EXIT_CODES, no_args_is_help=True)
def train(
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            readable=False,
            help="Holds MNIST (in MNIST/raw) or labelled images in subfolders 0 to 9.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", readable=False, help="The state dict to write."
        ),
    ],
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch MNIST into DIR.")
    ] = TRAIN.download,
    epochs: Annotated[
        int, typer.Option(metavar="N", help="Passes over the training images.")
    ] = TRAIN.epochs,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", metavar="N", help="Images in a batch.")
    ] = TRAIN.batch_size,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", help="At the peak of the one-cycle schedule.")
    ] = TRAIN.learning_rate,
    augment: Annotated[
        bool, typer.Option(help="Turn, shift, scale, shear and distort the images a little.")
    ] = TRAIN.augment,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed gives the same weights.")
    ] = TRAIN.seed,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="What computes.")
    ] = TRAIN.device,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of resuming FILE.resume.")
    ] = TRAIN.fresh,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Fit the CNN to labelled digits and write its weights.

    Part of the training images is held out to choose the epoch by; the test images are looked
    at once, at the end. Stopped, it resumes from its last whole epoch by the same command.
    """
    with exit_codes(f"{out} is as it was; the same command resumes after the last whole epoch"):
        job = TrainJob(
            data=data,
            out=out,
            download=download,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            augment=augment,
            seed=seed,
            device=device,
            fresh=fresh,
        )
        from batchdigit import train as training  # it imports torch, which takes seconds

        with show_progress(sys.stderr, quiet=quiet, unit="batches") as progress:
            summary = training.train(
                job,
                on_progress=progress,
                on_epoch=lambda epoch, score: progress.say(
                    f"epoch {epoch} of {job.epochs}: validation {score.accuracy:.2%}, "
                    f"loss {score.loss:.5f}"
                ),
            )
    with exit_codes("the training is complete"):
        if not quiet:
            _print_training(summary, job)


def _print_summary(summary: RunSummary, job: Job, *, quiet: bool, verbose: bool) -> None:
    failures = ", ".join(f"{count} {stage}" for stage, count in summary.failures_by_stage.items())
    if not quiet:
        say(
            f"{summary.found} images found = {summary.predicted} predicted + "
            f"{summary.failed} failed" + (f" ({failures})" if failures else "")
        )
        where = "" if job.out == STDOUT else f"; report in {job.out}"
        say(
            f"{summary.seconds['total']:.1f} s, {summary.images_per_second:.0f} images/s "
            f"on {summary.device}{where}"
        )
        if ignored := len(summary.ignored):
            say(f"{ignored} other files ignored" + ("" if verbose else " (--verbose names them)"))
    if verbose:
        for name in summary.ignored:
            say(f"ignored: {escape_filename(name)}")
        reader = summary.account["reader"]
        say("settings: " + ", ".join(f"{key} {value}" for key, value in reader.items()))
        times = summary.seconds.items()
        say("seconds: " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in times))
    if summary.exit_code is ExitCode.BAD_IMAGES:
        say(
            f"{summary.failed} of {summary.found} rows are errors, more than --max-bad "
            f"{job.max_bad} tolerates; the column error says why"
        )


def _print_training(summary: TrainSummary, job: TrainJob) -> None:
    say(f"kept epoch {summary.epoch} of {job.epochs}, by its loss on the validation images")
    for name, score in (("validation", summary.validation), ("test", summary.test)):
        say(f"{name}: {score.accuracy:.2%} ({score.errors} of {score.images} wrong)")
    say(f"weights in {job.out}, settings and scores in {job.out}.train.json")


def _number_or_auto(option: str, text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is neither a whole number nor auto", "write 256 or auto"
        ) from error


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _print_json(summary: RunSummary) -> None:
    try:
        typer.echo(json.dumps(summary.as_json()))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write standard output: {error.strerror}", "the report itself is complete"
        ) from error
