"""The command line: the program and its commands."""

from __future__ import annotations

import typer

from batchdigit.cli.bench import benches
from batchdigit.cli.commands import Command, CommandGroup, GroupedCommand
from batchdigit.cli.doctor import DOCTOR_EXIT_CODES, doctor
from batchdigit.cli.model import models
from batchdigit.cli.options import (
    VersionOption,
    exit_codes,
)
from batchdigit.cli.process import give_up_stdout, occupy_standard_streams
from batchdigit.cli.run import RUN_EPILOG, run
from batchdigit.cli.train import TRAIN_EXIT_CODES, train
from batchdigit.errors import ExitCode, OutputError
from batchdigit.system.working_folder import keep_children_out_of_it

app = typer.Typer(
    cls=CommandGroup,
    help="Which digit does each image show? Batch inference with a CNN over folders of images.",
    epilog=exit_codes(*ExitCode),
    no_args_is_help=True,
    # Plain text reads just as well in a log, and rich takes longer to import than all the rest.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(cls=GroupedCommand, epilog=RUN_EPILOG, no_args_is_help=True)(run)
app.command(cls=Command, epilog=TRAIN_EXIT_CODES, no_args_is_help=True)(train)
app.add_typer(benches, name="bench")
app.add_typer(models, name="model")
app.command(cls=Command, epilog=DOCTOR_EXIT_CODES)(doctor)


@app.callback()
def _program(_version: VersionOption = False) -> None:
    """Hold the options of the program itself, which act in their callbacks."""


def main() -> None:
    """Run the program and exit."""
    occupy_standard_streams()
    keep_children_out_of_it()
    try:
        app(prog_name="batchdigit")
    except OSError as error:  # from --help or --version; commands report their own
        give_up_stdout()
        problem = OutputError(
            f"cannot write standard output: {error.strerror}", "make room, or write elsewhere"
        )
        typer.echo(f"batchdigit: {problem}", err=True)
        raise SystemExit(ExitCode.CANNOT_WRITE) from error
