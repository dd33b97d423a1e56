"""``batchdigit run``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import typer

from batchdigit.cli import run_options as option
from batchdigit.cli.lines import run_complaints, run_details, run_lines, run_warnings, wrong_side
from batchdigit.cli.messages import LOG_FORMATS
from batchdigit.cli.model_options import Which, with_model_options
from batchdigit.cli.options import (
    ForceOption,
    JsonOption,
    ParentsOption,
    VersionOption,
    exit_codes,
    is_terminal,
    log,
    number_or_auto,
    print_json,
)
from batchdigit.cli.process import Ending, command
from batchdigit.cli.prometheus import Metrics, write_metrics
from batchdigit.errors import ExitCode, UsageError
from batchdigit.job import Job
from batchdigit.labels import read_labels
from batchdigit.places import STDOUT, own_paths
from batchdigit.reports.formats import choose_format
from batchdigit.reports.recognise import check_outputs
from batchdigit.sources.apart import check_apart
from batchdigit.system.events import about
from batchdigit.system.imports import loading
from batchdigit.system.lock import hold_output
from batchdigit.system.parents import parents_made
from batchdigit.system.processes import keep_memory
from batchdigit.system.progress import show_progress
from batchdigit.system.standard_output import standard_output
from batchdigit.system.tolerance import Tolerance
from batchdigit.version import __version__

LOG = logging.getLogger(__name__)
RUN = Job(source=("SOURCE",))  # the defaults, for --help
RUN_EXAMPLES = """\b
Examples:
  batchdigit run ./images --out preds.csv
  batchdigit run scans/ more/7.png --model CNN.pt --topk 3 --out preds.parquet
  batchdigit run ./images --out - | cut -d, -f1,2
"""
RUN_EXIT_CODES = exit_codes(*(code for code in ExitCode if code is not ExitCode.GATE))
RUN_EPILOG = f"{RUN_EXAMPLES}\n{RUN_EXIT_CODES}"


@with_model_options()
def run(
    source: option.Source,
    which: Which,
    out: option.Out = RUN.out,
    force: ForceOption = RUN.force,
    labels: option.Labels = None,
    report_format: option.Format = RUN.format,
    topk: option.Topk = RUN.topk,
    probs: option.Probs = RUN.probs,
    batch_size: option.BatchSize = "auto",
    workers: option.Workers = "auto",
    backend: option.Backend = RUN.backend,
    device: option.Device = RUN.device,
    precision: option.Precision = RUN.precision,
    preprocess: option.Preprocess = RUN.preprocess,
    review_below: option.ReviewBelow = RUN.review_below,
    explain: option.Explain = RUN.explain,
    save_fitted: option.SaveFitted = RUN.save_fitted,
    parents: ParentsOption = RUN.parents,
    bom: option.Bom = RUN.bom,
    follow_symlinks: option.FollowSymlinks = RUN.follow_symlinks,
    timeout: option.Timeout = RUN.timeout,
    max_bytes: option.MaxBytes = RUN.max_bytes,
    max_pixels: option.MaxPixels = RUN.max_pixels,
    max_bad: option.MaxBad = str(RUN.max_bad),
    allow_empty: option.AllowEmpty = RUN.allow_empty,
    update: option.Update = RUN.update,
    retry_errors: option.RetryErrors = RUN.retry_errors,
    max_gone: option.MaxGone = None,
    fresh: option.Fresh = RUN.fresh,
    wait: option.Wait = RUN.wait,
    log_file: option.LogFile = None,
    log_format: option.LogFormat = None,
    metrics: option.Metrics = None,
    as_json: JsonOption = False,
    quiet: option.Quiet = False,
    verbose: option.Verbose = False,
    _version: VersionOption = False,
) -> None:
    """Label every image in SOURCE and write a report with one row for each.

    Progress and messages go to standard error.
    """
    after_signal = f"{out} is as it was; the same command continues from here"
    if out == STDOUT:
        after_signal = "the rows are incomplete"
    with (
        command(after_signal, quiet=quiet, verbose=verbose) as ending,
        parents_made(out, log_file, metrics, wanted=parents),
        _log_and_metrics(
            ending,
            {"--out": out, "--log-file": log_file, "--metrics": metrics},
            {"--model": which.model, "--labels": labels},
            source,
            log_format,
            force,
        ) as measured,
    ):
        job = Job(
            source=tuple(source),
            out=out,
            force=force,
            **which.keywords(),
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
            parents=parents,
            bom=bom,
            follow_symlinks=follow_symlinks,
            allow_empty=allow_empty,
            timeout=timeout,
            max_bytes=max_bytes,
            max_pixels=max_pixels,
            max_bad=Tolerance.parse(max_bad),
            update=update,
            retry_errors=retry_errors,
            max_gone=None if max_gone is None else Tolerance.parse(max_gone, "--max-gone"),
            fresh=fresh,
            wait=wait,
        )
        form = choose_format(out, report_format, bom=bom)
        if out == STDOUT and as_json:
            raise UsageError(
                "--json and the report would both go to standard output",
                "give --out a file, or leave --json off",
            )
        if out == STDOUT and form.binary and is_terminal(standard_output()):
            raise UsageError(
                f"a terminal cannot show {form.name}",
                "redirect standard output, or give --out a file",
            )
        check_outputs(job)
        if out != STDOUT and not wait:
            with hold_output(out):  # raises at once if this run may not write there
                pass
        keep_memory()
        with loading("numpy, Pillow and OpenCV", "numpy pillow opencv-python-headless"):
            from batchdigit import pipeline

        LOG.debug("batchdigit %s: run %s --out %s", __version__, " ".join(source), out)
        with show_progress(sys.stderr, quiet=quiet) as progress:
            summary = measured.summary = pipeline.run(job, on_progress=progress)
        ending.after_signal = "the report is complete"
        counts = summary.counts()
        log(logging.INFO, run_lines(summary, job), "finished", **counts, summary=summary.as_json())
        log(logging.DEBUG, run_details(summary))
        log(logging.WARNING, run_warnings(summary, job))
        for line in wrong_side(summary):
            LOG.warning("%s", line, extra={"always": True} | about("wrong_polarity"))
        log(logging.ERROR, run_complaints(summary, job), "error_rows", **counts)
        if as_json:
            print_json(summary.as_json(), "the report itself is complete")
        raise typer.Exit(summary.exit_code)


@contextlib.contextmanager
def _log_and_metrics(
    ending: Ending,
    outputs: Mapping[str, Path | None],
    inputs: Mapping[str, Path | None],
    source: Iterable[str],
    log_format: str | None,
    force: bool,
) -> Iterator[Metrics]:
    """Write the log and the metrics of a run. Raises UsageError if they would replace other files.

    ``outputs`` and ``inputs`` are the files that the options name. ``force`` concerns files that
    are neither.
    """
    _check_apart(outputs, inputs)
    for name, path in outputs.items():
        check_apart(name, path, source)
    out, log_file = outputs["--out"] or STDOUT, outputs["--log-file"]
    if log_format is not None and log_file is None:
        raise UsageError("--log-format is for --log-file", "add --log-file FILE, or leave it off")
    with write_metrics(outputs["--metrics"], out, force=force) as measured:
        if log_file is not None:
            ending.log_to(log_file, log_format or LOG_FORMATS[0])
        yield measured


def _check_apart(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raise UsageError if an output is another output, an input, or lies beside the report."""
    out = outputs["--out"] or STDOUT
    own = {} if out == STDOUT else {str(path): what for path, what in own_paths(out).items()}
    options = {os.path.realpath(path): name for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is not None and path != STDOUT:
            place = os.path.realpath(path)
            other = options.setdefault(place, name)
            if other != name:
                raise UsageError(f"{other} and {name} name one file", "give each its own file")
            if what := own.get(place) or own.get(os.path.dirname(place)):
                raise UsageError(f"{name} {path} is {what}", "give it another file")
