"""The command line: the program and its commands."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from batchdigit.cli.commands import Command, CommandGroup, GroupedCommand
from batchdigit.cli.options import VersionOption, exit_codes
from batchdigit.cli.process import give_up_stdout, occupy_standard_streams
from batchdigit.errors import ExitCode, OutputError
from batchdigit.system.working_folder import keep_children_out_of_it


def _add_run(app: typer.Typer) -> None:
    from batchdigit.cli.run import RUN_EPILOG, run

    app.command(cls=GroupedCommand, epilog=RUN_EPILOG, no_args_is_help=True)(run)


def _add_train(app: typer.Typer) -> None:
    from batchdigit.cli.train import TRAIN_EXIT_CODES, train

    app.command(cls=Command, epilog=TRAIN_EXIT_CODES, no_args_is_help=True)(train)


def _add_bench(app: typer.Typer) -> None:
    from batchdigit.cli.bench import benches

    app.add_typer(benches, name="bench")


def _add_model(app: typer.Typer) -> None:
    from batchdigit.cli.model import models

    app.add_typer(models, name="model")


def _add_doctor(app: typer.Typer) -> None:
    from batchdigit.cli.doctor import DOCTOR_EXIT_CODES, doctor

    app.command(cls=Command, epilog=DOCTOR_EXIT_CODES)(doctor)


COMMANDS: dict[str, Callable[[typer.Typer], None]] = {
    "run": _add_run,
    "train": _add_train,
    "bench": _add_bench,
    "model": _add_model,
    "doctor": _add_doctor,
}
"""The commands, each with what adds it to the program, in the order of the help."""


def build(called: str | None = None) -> typer.Typer:
    """The program with the command that is ``called`` alone, if there is one of that name.

    typer looks at every option of every command before it parses the first word. To leave out the
    commands that are not called takes a tenth off the start.
    """
    app = typer.Typer(
        cls=CommandGroup,
        help="Which digit does each image show? Batch inference with a CNN over folders of images.",
        epilog=exit_codes(*ExitCode),
        no_args_is_help=True,
        # Plain text reads just as well in a log, and rich takes longer to import than all the rest.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_program)
    for name, add in COMMANDS.items():
        if called not in COMMANDS or called == name:
            add(app)
    return app


def _program(_version: VersionOption = False) -> None:
    """Hold the options of the program itself, which act in their callbacks."""


def main() -> None:
    """Run the program and exit."""
    occupy_standard_streams()
    keep_children_out_of_it()
    try:
        called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
        build(called)(prog_name="batchdigit")
    except OSError as error:  # from --help or --version; commands report their own
        give_up_stdout()
        problem = OutputError(
            f"cannot write standard output: {error.strerror}", "make room, or write elsewhere"
        )
        typer.echo(f"batchdigit: {problem}", err=True)
        raise SystemExit(ExitCode.CANNOT_WRITE) from error
