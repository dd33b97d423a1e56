"""Commands as this program has them: options in groups, and wrong usage in one line.

An option names its group where it is declared, by typer's ``rich_help_panel``. Typer shows groups
only by rich, which takes longer to import than all the rest.
"""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from batchdigit.errors import ExitCode, UsageError
from batchdigit.sources.endings import EXTENSIONS

READING = "What to read"
MODEL = "Model"
REPORT = "Report"
SPEED = "Speed"
UNATTENDED = "Unattended runs"
MESSAGES = "Messages and help"
GROUPS = (READING, MODEL, REPORT, SPEED, UNATTENDED, MESSAGES)
"""The groups of options, in the order of the help."""

_ENDINGS = [ending.decode() for ending in EXTENSIONS]
# What typer raises for wrong usage, whichever click it builds on, its own or the package.
_WrongUsage: Any = typer.BadParameter.__base__


class _SaysWhatIsWrong:
    """A command, or a group of them, that says in one line what is wrong with its arguments."""

    no_args_is_help: bool

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """Parse ``args``. Raises typer.Exit with the code of wrong usage, after a line about it."""
        given = list(args)
        try:
            return super().make_context(info_name, args, parent, **extra)  # type: ignore[misc]
        except _WrongUsage as error:
            if not given and self.no_args_is_help:
                raise  # it shows the help
            path = info_name if parent is None else f"{parent.command_path} {info_name}"
            raise _said(error, given, path) from error


class Command(_SaysWhatIsWrong, TyperCommand):
    """A command that writes its arguments as ``SOURCE...``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the name of the command in the line of its usage."""
        names = [
            _argument(parameter) if parameter.required else f"[{_argument(parameter)}]"
            for parameter in self.get_params(ctx)
            if parameter.param_type_name == "argument"
        ]
        return ["[OPTIONS]", *names]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each with its help."""
        sections: dict[str, list[tuple[str, str]]] = {
            heading: [] for heading in ("Arguments", *self._headings())
        }
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                if parameter.param_type_name == "argument":
                    sections["Arguments"].append((_argument(parameter), record[1]))
                else:
                    sections[self._heading(parameter)].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def _headings(self) -> tuple[str, ...]:
        return ("Options",)

    def _heading(self, _parameter: Any) -> str:
        return "Options"


class GroupedCommand(Command):
    """A command with so many options that its help shows them in GROUPS."""

    def _headings(self) -> tuple[str, ...]:
        return GROUPS

    def _heading(self, parameter: Any) -> str:
        # The option --help is click's own, which knows no groups.
        return getattr(parameter, "rich_help_panel", None) or MESSAGES


class CommandGroup(_SaysWhatIsWrong, TyperGroup):
    """A group of commands."""

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        """The command that is named; raises what a command raises if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except _WrongUsage as error:
            raise _said(error, args, ctx.command_path) from error


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.nargs == 1 else f"{name}..."


def _said(error: Any, args: list[str], command_path: str) -> typer.Exit:
    """Say what is wrong with ``args`` in one line, and what to do about it."""
    problem, _, guess = error.format_message().rstrip(".?").partition(". Did you mean ")
    remedy = f"did you mean {guess}?" if guess else f"see {command_path} --help"
    file = next(filter(_is_file_after_all, args), None)
    if "no such option" in problem.lower() and file is not None:
        remedy = f"if {file} is a file, name it ./{file}"
    problem = problem[:1].lower() + problem[1:]
    typer.echo(f"batchdigit: {UsageError(problem, remedy)}", err=True)
    return typer.Exit(ExitCode.USAGE)


def _is_file_after_all(argument: str) -> bool:
    """Whether an argument that looks like options, as ``-x.png`` does, may be a file."""
    if not argument.startswith("-") or argument.strip("-") == "":
        return False
    return os.path.lexists(argument) or argument.lower().endswith(tuple(_ENDINGS))
