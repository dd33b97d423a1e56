"""``batchdigit run``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from batchdigit.cli.lines import run_complaints, run_details, run_lines
from batchdigit.cli.messages import LOG_FORMATS
from batchdigit.cli.options import (
    ClassNameOption,
    JsonOption,
    ModelOption,
    VersionOption,
    is_terminal,
    log,
    number_or_auto,
    print_json,
)
from batchdigit.cli.process import Ending, command
from batchdigit.cli.prometheus import Metrics, write_metrics
from batchdigit.errors import UsageError
from batchdigit.job import (
    BACKENDS,
    PRECISIONS,
    PREPROCESSING,
    Job,
    Tolerance,
    default_model,
)
from batchdigit.labels import read_labels
from batchdigit.places import STDOUT
from batchdigit.reports.formats import FORMATS, choose_format
from batchdigit.system.imports import loading
from batchdigit.system.lock import hold_output
from batchdigit.system.processes import keep_memory
from batchdigit.system.progress import show_progress
from batchdigit.version import __version__

LOG = logging.getLogger(__name__)
RUN = Job(source=("SOURCE",))  # the defaults, for --help
RUN_EXAMPLES = """\b
Examples:
  batchdigit run ./images --out preds.csv
  batchdigit run scans/ more/7.png --model CNN.pt --topk 3 --out preds.parquet
  batchdigit run ./images --out - | cut -d, -f1,2
"""


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
    model: ModelOption = None,
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
        job = Job(
            source=tuple(source),
            out=out,
            model=model or default_model(),
            class_name=class_name,
            labels=read_labels(labels) if labels else (),
            format=report_format,
            topk=topk,
            probs=probs,
            batch_size=number_or_auto("--batch-size", batch_size),
            workers=number_or_auto("--workers", workers),
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
        form = choose_format(out, report_format)
        if out == STDOUT and as_json:
            raise UsageError(
                "--json and the report would both go to standard output",
                "give --out a file, or leave --json off",
            )
        if out == STDOUT and form.name == "parquet" and is_terminal(sys.stdout):
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
        log(logging.INFO, run_lines(summary, job), summary=summary.as_json())
        log(logging.DEBUG, run_details(summary))
        log(logging.ERROR, run_complaints(summary, job))
        if as_json:
            print_json(summary.as_json(), "the report itself is complete")
        raise typer.Exit(summary.exit_code)


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
