"""Help in groups, and wrong usage in one line."""

import re
from collections.abc import Sequence

import pytest
import typer
from typer.testing import CliRunner

from batchdigit.cli.commands import GROUPS
from tests.support.programs import app
from tests.support.samples import Program

WIDTH = 80
# As a user would look for them, which is written here once more on purpose.
GROUP_OF_OPTION = {
    "--preprocess": "What to read",
    "--timeout": "What to read",
    "--follow-symlinks": "What to read",
    "--model": "Model",
    "--class-name": "Model",
    "--key": "Model",
    "--out": "Report",
    "--format": "Report",
    "--topk": "Report",
    "--batch-size": "Speed",
    "--workers": "Speed",
    "--device": "Speed",
    "--update": "Unattended runs",
    "--max-bad": "Unattended runs",
    "--log-file": "Unattended runs",
    "--quiet": "Messages and help",
    "--json": "Messages and help",
    "--version": "Messages and help",
    "--help": "Messages and help",
}


def help_of(*command: str) -> str:
    done = CliRunner(env={"COLUMNS": str(WIDTH)}).invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    return done.stdout


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^(\S.*):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_options_of_a_run_are_shown_in_groups() -> None:
    shown = sections(help_of("run"))
    assert list(shown) == ["Arguments", *GROUPS]
    for option, group in GROUP_OF_OPTION.items():
        line = re.compile(rf"^  (-\w, )?{option}\b", re.MULTILINE)
        found = [name for name, text in shown.items() if line.search(text)]
        assert found == [group], option


def test_every_option_of_a_run_names_its_group() -> None:
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    options = [parameter for parameter in run.params if parameter.param_type_name == "option"]
    assert len(options) > 30
    assert [option.opts for option in options if option.rich_help_panel not in GROUPS] == []


def test_commands_with_few_options_show_them_together() -> None:
    for command in (["doctor"], ["train"], ["bench", "measure"], ["model", "convert"]):
        assert set(sections(help_of(*command))) <= {"Arguments", "Options"}


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (["run"], "batchdigit run [OPTIONS] SOURCE..."),
        (["doctor"], "batchdigit doctor [OPTIONS] [SOURCE...]"),
        (["model", "convert"], "batchdigit model convert [OPTIONS] IN OUT"),
        (["train"], "batchdigit train [OPTIONS]"),
    ],
)
def test_usage_names_what_may_be_repeated_and_what_may_be_left_off(
    command: Sequence[str], usage: str
) -> None:
    assert f"{usage}\n" in help_of(*command).replace("root ", "batchdigit ")


@pytest.mark.parametrize("command", [["run"], ["bench"], ["train"], ["doctor"], ["model"]])
def test_help_fits_a_terminal(command: Sequence[str]) -> None:
    lines = help_of(*command).partition("  Examples:")[0].splitlines()
    assert len(lines) > 5
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "-x.png"], "if -x.png is a file, name it ./-x.png"),
        (["run", "d", "-7.PNG"], "if -7.PNG is a file, name it ./-7.PNG"),
        (["run", "d", "--nonsense"], "see batchdigit run --help"),
        (["run", "d", "--topk", "x"], "see batchdigit run --help"),
        (["run", "d", "--out"], "see batchdigit run --help"),
        (["train", "--out", "x"], "see batchdigit train --help"),
        (["model", "convert", "a"], "see batchdigit model convert --help"),
        (["bench", "compare", "a"], "see batchdigit bench compare --help"),
        (["bench", "--what"], "see batchdigit bench measure --help"),
        (["model", "improve"], "see batchdigit model --help"),
        (["rnu", "d"], "did you mean 'run'?"),
        (["--what"], "see batchdigit --help"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_with_its_remedy(
    program: Program, arguments: list[str], said: str
) -> None:
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.match(r"batchdigit: [a-z].*; ", line)
    assert said in line
