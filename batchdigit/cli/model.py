"""``batchdigit model``: ``inspect``, ``check`` and ``convert``."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchdigit.cli import run_options as option
from batchdigit.cli.commands import Command, CommandGroup
from batchdigit.cli.lines import conversion_lines, declaration_lines, inspection_lines
from batchdigit.cli.model_options import Which, with_model_options
from batchdigit.cli.options import (
    JsonOption,
    ParentsOption,
    exit_codes,
    log,
    print_json,
    print_lines,
)
from batchdigit.cli.process import command
from batchdigit.errors import BatchdigitError, CheckpointError, ExitCode, UsageError
from batchdigit.job import Job
from batchdigit.labels import read_labels
from batchdigit.system.imports import loading
from batchdigit.system.parents import parents_made

if TYPE_CHECKING:
    from batchdigit.backends.known_digits import KnownDigits
    from batchdigit.modelfiles.file import ModelFile

LOG = logging.getLogger(__name__)
_CODES = (ExitCode.MODEL_REFUSED, ExitCode.CANNOT_WRITE)
MODEL_EXIT_CODES = exit_codes(*_CODES, ExitCode.NO_IMAGES, OK="done")
INSPECT_EXIT_CODES = exit_codes(*_CODES, OK="a run accepts the model file")
CHECK_EXIT_CODES = exit_codes(*_CODES, ExitCode.NO_IMAGES, OK="tried, whatever was found")
CONVERT_EXIT_CODES = exit_codes(*_CODES, OK="the model is converted")
models = typer.Typer(
    cls=CommandGroup,
    help="Inspect model files, and convert them.",
    epilog=MODEL_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@models.command(cls=Command, epilog=INSPECT_EXIT_CODES, no_args_is_help=True)
@with_model_options(model=False)
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The model file.")],
    which: Which,
    as_json: JsonOption = False,
) -> None:
    """Say what a model file is and what it holds, without running anything in it.

    A model of ten digits is also given digits whose labels are known. The exit code is 0 for a file
    that a run accepts, and 65 for any other.
    """
    with command("nothing was changed"):
        job = Job(source=(".",), model=file, **which.keywords())
        with loading("numpy", "numpy"):
            from batchdigit.backends.opening import open_model_file
            from batchdigit.models.inspection import inspect_file
            from batchdigit.models.wanted import THE_CNN

        job, opened = open_model_file(job)
        assert opened is not None  # noqa: S101  (a command has no model in memory)
        wanted = THE_CNN
        if job.network is not None:
            with loading("PyTorch", "torch"):
                from batchdigit.backends.own_model import wanted_by
            wanted = wanted_by(job)
        inspection = inspect_file(opened, job.class_name, job.key, wanted)
        known = None
        if inspection.usable:
            try:
                classes, known = _known_digits(job, opened)
                inspection = replace(inspection, classes=classes or inspection.classes)
            except CheckpointError as error:  # which shows only once it is given images
                inspection = replace(inspection, problem=error.problem, remedy=error.remedy)
        if as_json:
            read = known.as_json() if known else None
            print_json(inspection.as_json() | {"known_digits": read}, "")
        else:
            print_lines(inspection_lines(inspection, known), "")
        raise typer.Exit(ExitCode.OK if inspection.usable else ExitCode.MODEL_REFUSED)


@models.command(cls=Command, epilog=CHECK_EXIT_CODES, no_args_is_help=True)
@with_model_options(model=False, check=False)
def check(
    file: Annotated[Path, typer.Argument(metavar="MODEL", readable=False, help="The model file.")],
    which: Which,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE",
            readable=False,
            help="A folder with a subfolder of images for each class, called as the class is.  "
            "[default: the thousand packaged digits]",
        ),
    ] = None,
    labels: option.Labels = None,
    preprocess: option.Preprocess = None,
    as_json: JsonOption = False,
) -> None:
    """Try how images may be given to a model, and say how many labelled ones it reads right.

    Ranges, means and deviations, polarity, size, layout, padding and transposition are tried. The
    declaration that reads most of them is printed as options and as a model.toml, and never
    applied.
    """
    with command("nothing was changed"):
        job = Job(
            source=(str(source) if source is not None else ".",),
            model=file,
            **which.keywords(),
            labels=read_labels(labels) if labels else (),
            preprocess=preprocess,
        )
        with loading("numpy, Pillow and OpenCV", "numpy pillow opencv-python-headless"):
            from batchdigit.doctor.declaring import try_declarations

        tried = try_declarations(job, with_source=source is not None)
        if as_json:
            print_json(tried.as_json(), "")
        else:
            print_lines(declaration_lines(tried), "")


@models.command(cls=Command, epilog=CONVERT_EXIT_CODES, no_args_is_help=True)
@with_model_options(model=False, check=False)
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", readable=False, help="A model file that a run accepts.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", readable=False, help="Ends in .pt, .pth, .safetensors or .onnx."
        ),
    ],
    which: Which,
    labels: option.Labels = None,
    parents: ParentsOption = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace OUT if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Write a model as a state dict (.pt), as .safetensors or as .onnx.

    The new file is checked against the old one on a thousand digits before it appears. What is
    declared of the input becomes part of an .onnx, and of the weights of the packaged kind of
    network; a .safetensors of any other holds it, too. Such files need no declaration.
    """
    with command(f"{target} is as it was", quiet=quiet) as ending:
        with loading("PyTorch", "torch"):
            from batchdigit.backends.convert import (
                convert_model,  # imports torch, which takes seconds
            )

        with parents_made(target, wanted=parents):
            conversion = convert_model(
                source,
                target,
                force=force,
                labels=read_labels(labels) if labels else (),
                **which.keywords(),
            )
        ending.after_signal = "the conversion is complete"
        log(logging.INFO, conversion_lines(conversion))


def _known_digits(job: Job, file: ModelFile) -> tuple[int | None, KnownDigits | None]:
    """How many classes a usable model has, and how many known digits it reads; warns of too few.

    Raises CheckpointError for a network that gives no scores of them, UsageError for a declaration
    that it cannot have.
    """
    with loading("numpy", "numpy"):
        from batchdigit.backends.known_digits import check_model_file, warn
    try:
        model, known = check_model_file(job, file)
        warn(model, known)
    except (CheckpointError, UsageError):
        raise
    except BatchdigitError as error:  # neither backend is there, or works
        LOG.warning("no known digits were read: %s", error)
        return None, None
    return model.model.classes, known
