"""The command line: parse, call one function of the library, print, exit."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from batchdigit.errors import EXIT_CODE_MEANINGS, ExitCode, OutputError, UsageError
from batchdigit.jobs import (
    BACKENDS,
    FORMATS,
    MODEL_VARIABLE,
    PRECISIONS,
    PREPROCESSING,
    STDOUT,
    Job,
    Tolerance,
    TrainJob,
    default_model,
)
from batchdigit.labels import read_labels
from batchdigit.loading import loading
from batchdigit.lock import hold_output
from batchdigit.messages import LOG_FORMATS
from batchdigit.metrics import Metrics, write_metrics
from batchdigit.outcome import (
    conversion_lines,
    inspection_lines,
    run_complaints,
    run_details,
    run_lines,
    training_lines,
)
from batchdigit.process import (
    Ending,
    command,
    give_up_stdout,
    keep_memory,
    occupy_standard_streams,
)
from batchdigit.progress import show_progress
from batchdigit.version import __version__

LOG = logging.getLogger(__name__)
RUN = Job(source=(Path("SOURCE"),))  # the defaults, for --help
TRAIN = TrainJob(data=Path("DIR"), out=Path("FILE"))


def _exit_codes(meanings: dict[ExitCode, str]) -> str:
    lines = [f"  {code:<6} {meaning}" for code, meaning in meanings.items()]
    # \b keeps click from filling the lines that follow into one paragraph.
    return "\n".join(["\b", "Exit codes:", *lines, "  128+N  stopped by signal N"])


EXIT_CODES = _exit_codes(EXIT_CODE_MEANINGS)
MODEL_EXIT_CODES = _exit_codes(
    {
        code: "done" if code is ExitCode.OK else meaning
        for code, meaning in EXIT_CODE_MEANINGS.items()
        if code not in (ExitCode.BAD_IMAGES, ExitCode.NO_IMAGES)
    }
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


models = typer.Typer(
    help="Look into model files, and convert them.",
    epilog=MODEL_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(models, name="model")


def main() -> None:
    """Run the program and exit."""
    occupy_standard_streams()
    try:
        app(prog_name="batchdigit")
    except OSError as error:  # of --help and --version; commands say theirs themselves
        give_up_stdout()
        problem = OutputError(
            f"cannot write standard output: {error.strerror}", "make room, or write elsewhere"
        )
        typer.echo(f"batchdigit: {problem}", err=True)
        raise SystemExit(ExitCode.CANNOT_WRITE) from error


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
ClassNameOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What the class of a whole pickled model is called, if not CNN.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


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
            help="A CNN's weights: a state dict, a whole model, safetensors or converted to ONNX.  "
            f"[default: ${MODEL_VARIABLE}, else the packaged one]",
        ),
    ] = None,
    class_name: ClassNameOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Names of the classes, one a line or JSON, to report instead of numbers.",
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
    backend: Annotated[
        str,
        typer.Option(
            metavar="|".join(BACKENDS),
            help="What computes; auto is ONNX Runtime on a CPU where it is installed.",
        ),
    ] = RUN.backend,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="On what it computes.")
    ] = RUN.device,
    precision: Annotated[
        str,
        typer.Option(
            metavar="|".join(PRECISIONS),
            help="What the network computes in; auto: less than fp32 where labels stay.",
        ),
    ] = RUN.precision,
    preprocess: Annotated[
        str,
        typer.Option(
            metavar="|".join(PREPROCESSING),
            help="Fit images that don't look like MNIST's, none or all.",
        ),
    ] = RUN.preprocess,
    review_below: Annotated[
        float,
        typer.Option(metavar="P", help="A row with less confidence needs a person's review."),
    ] = RUN.review_below,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add what was found: polarity, fitted, ink.")
    ] = RUN.explain,
    save_fitted: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", readable=False, help="Save the 28x28 images that the network got to see."
        ),
    ] = RUN.save_fitted,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Read linked files, enter linked folders.")
    ] = RUN.follow_symlinks,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Give up on a file after that long.")
    ] = RUN.timeout,
    max_bytes: Annotated[
        int, typer.Option(metavar="N", help="Read no file that is larger.")
    ] = RUN.max_bytes,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", help="Decode no image that is larger.")
    ] = RUN.max_pixels,
    max_bad: Annotated[
        str,
        typer.Option(
            "--max-bad", metavar="N|P%", help="Error rows to tolerate before the exit code is 3."
        ),
    ] = str(RUN.max_bad),
    update: Annotated[
        bool,
        typer.Option("--update", help="Take over the last report's rows of unchanged files."),
    ] = RUN.update,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="With --update: but not its error rows.")
    ] = RUN.retry_errors,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of going on with a stopped run.")
    ] = RUN.fresh,
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Let another run that writes FILE end, that long."),
    ] = RUN.wait,
    log_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="Append what is said to a file."),
    ] = None,
    log_format: Annotated[
        str, typer.Option(metavar="|".join(LOG_FORMATS), help="How --log-file is written.")
    ] = LOG_FORMATS[0],
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Write the outcome for Prometheus' node_exporter."
        ),
    ] = None,
    as_json: JsonOption = False,
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
    after_signal = f"{out} is as it was; the same command goes on from here"
    if out == STDOUT:
        after_signal = "the rows are not complete"
    with (
        command(after_signal, quiet=quiet, verbose=verbose) as ending,
        _log_and_metrics(ending, out, log_file, log_format, metrics) as measured,
    ):
        if "" in source:
            raise UsageError("a source is an empty name", "name a folder, or . for this one")
        job = Job(
            source=tuple(map(Path, source)),
            out=out,
            model=model or default_model(),
            class_name=class_name,
            labels=read_labels(labels) if labels else (),
            format=report_format,
            topk=topk,
            probs=probs,
            batch_size=_number_or_auto("--batch-size", batch_size),
            workers=_number_or_auto("--workers", workers),
            backend=backend,
            device=device,
            precision=precision,
            preprocess=preprocess,
            review_below=review_below,
            explain=explain,
            save_fitted=save_fitted,
            follow_symlinks=follow_symlinks,
            timeout=timeout,
            max_bytes=max_bytes,
            max_pixels=max_pixels,
            max_bad=Tolerance.parse(max_bad),
            update=update,
            retry_errors=retry_errors,
            fresh=fresh,
            wait=wait,
        )
        if out == STDOUT and as_json:
            raise UsageError(
                "--json and the report would both go to standard output",
                "give --out a file, or leave --json off",
            )
        if out == STDOUT and job.report_format[0] == "parquet" and _is_terminal(sys.stdout):
            raise UsageError(
                "Parquet is not for a terminal",
                "redirect standard output, or give --out a file",
            )
        if out != STDOUT and not wait:
            with hold_output(out):  # whoever must not write there is told so at once
                pass
        keep_memory()
        with loading("numpy, Pillow and OpenCV", "numpy pillow opencv-python-headless"):
            from batchdigit import pipeline

        LOG.debug("batchdigit %s: run %s --out %s", __version__, " ".join(source), out)
        with show_progress(sys.stderr, quiet=quiet) as progress:
            summary = measured.summary = pipeline.run(job, on_progress=progress)
        ending.after_signal = "the report is complete"
        _log(logging.INFO, run_lines(summary, job), summary=summary.as_json())
        _log(logging.DEBUG, run_details(summary))
        _log(logging.ERROR, run_complaints(summary, job))
        if as_json:
            _print_json(summary.as_json(), "the report itself is complete")
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
    variants: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Pictures of each image in other hands and on other paper, that train beside it.",
        ),
    ] = TRAIN.variants,
    preprocess: Annotated[
        str,
        typer.Option(metavar="|".join(PREPROCESSING), help="What the model will be run with."),
    ] = TRAIN.preprocess,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="A model to begin with, not random weights."
        ),
    ] = TRAIN.start,
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
    after_signal = f"{out} is as it was; the same command resumes after the last whole epoch"
    with command(after_signal, quiet=quiet) as ending:
        job = TrainJob(
            data=data,
            out=out,
            download=download,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            augment=augment,
            variants=variants,
            preprocess=preprocess,
            start=start,
            seed=seed,
            device=device,
            fresh=fresh,
        )
        with loading("PyTorch", "torch"):
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
        ending.after_signal = "the training is complete"
        _log(logging.INFO, training_lines(summary, job))


@models.command(epilog=MODEL_EXIT_CODES, no_args_is_help=True)
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The model file.")],
    class_name: ClassNameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model file is and holds, without running anything in it.

    The exit code is 0 for a file that a run would take and 65 for any other.
    """
    with command("nothing was changed"):
        with loading("numpy", "numpy"):
            from batchdigit.inspection import inspect_model

        inspection = inspect_model(file, class_name)
        if as_json:
            _print_json(inspection.as_json(), "")
        else:
            _print(inspection_lines(inspection), "")
        raise typer.Exit(ExitCode.OK if inspection.usable else ExitCode.MODEL_REFUSED)


@models.command(epilog=MODEL_EXIT_CODES, no_args_is_help=True)
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", readable=False, help="A model file that a run takes.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", readable=False, help="Ends in .pt, .pth, .safetensors or .onnx."
        ),
    ],
    class_name: ClassNameOption = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace OUT if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Write a model as a state dict (.pt), as .safetensors or as .onnx.

    The new file is checked against the old one before it appears: the first two hold the very
    same tensors, and ONNX Runtime agrees with PyTorch on a thousand digits.
    """
    with command(f"{target} is as it was", quiet=quiet) as ending:
        with loading("PyTorch", "torch"):
            from batchdigit.convert import convert_model  # it imports torch, which takes seconds

        conversion = convert_model(source, target, class_name=class_name, force=force)
        ending.after_signal = "the conversion is complete"
        _log(logging.INFO, conversion_lines(conversion))


@contextlib.contextmanager
def _log_and_metrics(
    ending: Ending, out: Path, log_file: Path | None, log_format: str, metrics: Path | None
) -> Iterator[Metrics]:
    """What a run writes beside its report. Raises UsageError where that would be one file."""
    options: dict[str, str] = {}
    for option, path in (("--out", out), ("--log-file", log_file), ("--metrics", metrics)):
        if path is not None and path != STDOUT:
            other = options.setdefault(os.path.realpath(path), option)
            if other != option:
                raise UsageError(f"{other} and {option} name one file", "give each its own")
    with write_metrics(metrics, out) as measured:
        if log_file is not None:
            ending.log_to(log_file, log_format)
        yield measured


def _number_or_auto(option: str, text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is neither a whole number nor auto",
            f"write {'256' if option == '--batch-size' else '2'} or auto",
        ) from error


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _log(level: int, lines: Iterable[str], **fields: Any) -> None:
    """Say ``lines``; a log in JSON gets the ``fields`` with the first."""
    for line in lines:
        LOG.log(level, "%s", line, extra={"fields": fields})
        fields = {}


def _print_json(data: dict[str, Any], remedy: str) -> None:
    _print([json.dumps(data)], remedy)


def _print(lines: Iterable[str], remedy: str) -> None:
    """Write the lines that a command was asked for to standard output."""
    if sys.stdout is None:
        raise OutputError("standard output is closed", remedy)
    try:
        for line in lines:
            typer.echo(line)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write standard output: {error.strerror}", remedy) from error
