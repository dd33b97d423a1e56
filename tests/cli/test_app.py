"""The program as a whole: its help, its version, and what it loads for them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import batchdigit
from batchdigit import errors
from batchdigit.cli.app import COMMANDS, build
from tests.support.platforms import needs_linux
from tests.support.programs import WRONG_USAGE, app, problem
from tests.support.samples import REPOSITORY, Program

runner = CliRunner()


def test_installed_command_is_the_module(program: Program) -> None:
    script = Path(sys.executable).parent / "batchdigit"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == program("--version").stdout == f"batchdigit {batchdigit.__version__}\n"


RUN_CODES = ["0", "3", "1", "2", "65", "66", "73", "74", "75", "128+N"]
MODEL_CODES = ["0", "1", "2", "65", "73", "128+N"]
CHECK_CODES = ["0", "1", "2", "65", "66", "73", "128+N"]


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        ([], ["0", "3", "4", *RUN_CODES[2:]]),
        (["run"], RUN_CODES),
        (["train"], ["0", "1", "2", "65", "66", "73", "128+N"]),
        (["bench"], ["0", "1", "2", "65", "66", "73", "128+N"]),
        (["bench", "compare"], ["0", "4", "1", "2", "73", "128+N"]),
        (["model"], CHECK_CODES),
        (["model", "inspect"], MODEL_CODES),
        (["model", "convert"], MODEL_CODES),
        (["model", "check"], CHECK_CODES),
        (["doctor"], ["0", "1", "2", "73", "128+N"]),
    ],
)
def test_help_names_the_exit_codes_that_a_command_has(command: list[str], codes: list[str]) -> None:
    done = runner.invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    lines = done.stdout.partition("Exit codes:")[2]
    assert [line.split()[0] for line in lines.splitlines() if line.strip()] == codes
    assert ("--max-bad" in lines) == (command in ([], ["run"]))


def test_exit_codes_in_the_help_are_those_of_the_errors() -> None:
    help_text = runner.invoke(app, ["--help"]).output
    for code, meaning in errors.EXIT_CODE_MEANINGS.items():
        assert f"{code:<6} {meaning}" in help_text


def test_each_command_and_option_is_explained() -> None:
    import typer

    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        for parameter in command.params:
            explained = getattr(parameter, "help", None) or parameter.param_type_name == "argument"
            assert explained, parameter.name


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["run", "--nonsense"]]
    + [["run", "images", *wrong] for wrong in WRONG_USAGE],
    ids=" ".join,
)
def test_help_and_usage_errors_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['batchdigit', *{arguments}]\n"
        "from batchdigit.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'torchvision', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not [name for name in sys.modules if name.startswith('batchdigit.networks')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@needs_linux("/dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_help_to_a_full_disk_is_one_line(program: Program, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = program(*arguments, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    done.stdout = ""
    assert "No space left" in problem(done, 73)


def test_a_command_that_is_called_is_built_alone_and_all_are_there() -> None:
    whole = {command.name or command.callback.__name__ for command in build().registered_commands}
    groups = {group.name for group in build().registered_groups}
    assert whole | groups == COMMANDS.keys()
    alone = build("run")
    assert [command.callback.__name__ for command in alone.registered_commands] == ["run"]
    assert alone.registered_groups == []
    assert len(build("no such").registered_commands) == len(whole)


def test_help_of_the_program_names_every_command(program: Program) -> None:
    done = program("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


def test_a_run_loads_no_other_command(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['batchdigit', 'run', '--help']\n"
        "from batchdigit.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "names = ('bench', 'train', 'model', 'doctor')\n"
        "print([name for name in names if f'batchdigit.cli.{name}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
