"""``batchdigit model inspect`` and ``batchdigit model convert``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchdigit.cli.commands import Command, CommandGroup
from batchdigit.cli.lines import conversion_lines, inspection_lines
from batchdigit.cli.options import (
    ClassNameOption,
    JsonOption,
    KeyOption,
    MeanOption,
    NoModelCheckOption,
    ParentsOption,
    StdOption,
    exit_codes,
    log,
    print_json,
    print_lines,
)
from batchdigit.cli.process import command
from batchdigit.errors import BatchdigitError, ExitCode
from batchdigit.job import Job
from batchdigit.system.imports import loading
from batchdigit.system.parents import parents_made

if TYPE_CHECKING:
    from batchdigit.backends.known_digits import KnownDigits
    from batchdigit.modelfiles.file import ModelFile

LOG = logging.getLogger(__name__)
_CODES = (ExitCode.MODEL_REFUSED, ExitCode.CANNOT_WRITE)
MODEL_EXIT_CODES = exit_codes(*_CODES, OK="done")
INSPECT_EXIT_CODES = exit_codes(*_CODES, OK="a run accepts the model file")
CONVERT_EXIT_CODES = exit_codes(*_CODES, OK="the model is converted")
models = typer.Typer(
    cls=CommandGroup,
    help="Inspect model files, and convert them.",
    epilog=MODEL_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@models.command(cls=Command, epilog=INSPECT_EXIT_CODES, no_args_is_help=True)
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The model file.")],
    class_name: ClassNameOption = None,
    key: KeyOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    no_model_check: NoModelCheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a model file is and what it holds, without running anything in it.

    A model of ten digits is also given digits whose labels are known. The exit code is 0 for a file
    that a run accepts, and 65 for any other.
    """
    with command("nothing was changed"):
        job = Job(
            source=(".",),
            model=file,
            class_name=class_name,
            key=key,
            mean=mean,
            std=std,
            model_check=not no_model_check,
        )
        with loading("numpy", "numpy"):
            from batchdigit.modelfiles.file import read_model_file
            from batchdigit.models.inspection import inspect_file

        opened = read_model_file(job.model)
        inspection = inspect_file(opened, class_name, key)
        known = _known_digits(job, opened) if inspection.usable else None
        if as_json:
            read = known.as_json() if known else None
            print_json(inspection.as_json() | {"known_digits": read}, "")
        else:
            print_lines(inspection_lines(inspection, known), "")
        raise typer.Exit(ExitCode.OK if inspection.usable else ExitCode.MODEL_REFUSED)


@models.command(cls=Command, epilog=CONVERT_EXIT_CODES, no_args_is_help=True)
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
    class_name: ClassNameOption = None,
    key: KeyOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    parents: ParentsOption = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace OUT if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Write a model as a state dict (.pt), as .safetensors or as .onnx.

    The new file is checked against the old one before it appears. The first two formats must
    hold exactly the same tensors; for .onnx, ONNX Runtime must agree with PyTorch on a thousand
    digits. With --mean and --std, which become part of the weights, the new file needs neither.
    """
    with command(f"{target} is as it was", quiet=quiet) as ending:
        with loading("PyTorch", "torch"):
            from batchdigit.models.convert import (
                convert_model,  # imports torch, which takes seconds
            )

        with parents_made(target, wanted=parents):
            conversion = convert_model(
                source, target, class_name=class_name, key=key, mean=mean, std=std, force=force
            )
        ending.after_signal = "the conversion is complete"
        log(logging.INFO, conversion_lines(conversion))


def _known_digits(job: Job, file: ModelFile) -> KnownDigits | None:
    """How many known digits a model that was found to be usable reads right; warns of too few."""
    with loading("numpy", "numpy"):
        from batchdigit.backends.known_digits import check_model_file, warn
    try:
        model, known = check_model_file(job, file)
        warn(job, model, known)
    except BatchdigitError as error:  # neither backend is there, or works
        LOG.warning("no known digits were read: %s", error)
        return None
    return known
