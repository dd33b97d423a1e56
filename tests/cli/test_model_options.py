"""The options that say which model is meant: the same for every command, and what comes of them."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from batchdigit import Job
from batchdigit.cli.commands import Command
from batchdigit.cli.model_options import Which, with_model_options
from batchdigit.errors import BatchdigitError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.declaration import DECLARED, GIVEN_AS, Declaration
from tests.support.programs import app

CODE = {"--network", "--network-args"}
IN_A_FILE = {"--class-name", "--key"}
ALL = {*CODE, *IN_A_FILE, *GIVEN_AS.values()}
COMMANDS = {
    ("run",): {"--model", "--no-model-check"},
    ("doctor",): {"--model", "--no-model-check"},
    ("bench", "measure"): {"--model"},
    ("model", "inspect"): {"--no-model-check"},
    ("model", "check"): set(),
    ("model", "convert"): set(),
}


def options_of(path: tuple[str, ...]) -> dict[str, Any]:
    """The options of a command by their names, each as typer has it."""
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    return {option: one for one in command.params for option in one.opts if "--" in option}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_the_same_options_and_says_the_same_of_them(
    path: tuple[str, ...],
) -> None:
    options, of_run = options_of(path), options_of(("run",))
    about_models = {name for name in options if name in of_run and _group(of_run[name]) == "Model"}
    assert about_models - {"--labels", "--preprocess"} == ALL | COMMANDS[path]
    for name in ALL | COMMANDS[path]:
        assert (options[name].help, options[name].metavar) == (
            of_run[name].help,
            of_run[name].metavar,
        )


def test_no_other_command_runs_code_of_the_users() -> None:
    found = []

    def look(command: Any, path: tuple[str, ...]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            look(inner, (*path, name))
        if {option for one in command.params for option in one.opts} & CODE:
            found.append(path)

    look(typer.main.get_command(app), ())
    assert set(found) == set(COMMANDS)


def test_help_of_a_run_shows_them_under_one_heading() -> None:
    done = CliRunner().invoke(app, ["run", "--help"])
    model = done.stdout.partition("\nModel:\n")[2].partition("\nReport:\n")[0]
    assert {word for word in model.split() if word in ALL} == ALL
    for option in ALL:
        assert done.stdout.count(f"\n  {option} ") == 1


def _group(option: Any) -> str:
    return getattr(option, "rich_help_panel", None) or ""


def given(*arguments: str, **options: Any) -> Which:
    """What a command of these options gets from the command line."""
    got: list[Which] = []

    def command(which: Which, other: bool = False) -> None:
        assert not other
        got.append(which)

    own = typer.Typer()
    own.command(cls=Command)(with_model_options(**options)(command))
    done = CliRunner().invoke(own, list(arguments))
    assert done.exit_code == 0, done.output
    return got[0]


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--model", "a.pt"], "model", Path("a.pt")),
        (["--class-name", "Net"], "class_name", "Net"),
        (["--key", "ema.model"], "key", "ema.model"),
        (["--network", "net.py:Net"], "network", "net.py:Net"),
        (["--input-size", "32"], "input_size", (32, 32)),
        (["--input-size", "32x24"], "input_size", (32, 24)),
        (["--channels", "3"], "channels", 3),
        (["--range", "0-255"], "range", "0-255"),
        (["--mean", "0.5,0.4,0.3", "--std", "1"], "mean", (0.5, 0.4, 0.3)),
        (["--mean", "0", "--std=-0.5"], "std", (-0.5,)),
        (["--expects", "dark-on-light"], "expects", "dark-on-light"),
        (["--layout", "flat"], "layout", "flat"),
        (["--transpose"], "transpose", True),
        (["--place", "pad"], "place", "pad"),
        (["--scores", "probabilities"], "scores", "probabilities"),
        (["--no-model-check"], "model_check", False),
    ],
)
def test_option_reaches_the_job_and_leaves_the_others_as_they_are(
    arguments: list[str], field: str, value: object
) -> None:
    job, plain = (Job(["x"], **given(*words).keywords()) for words in (arguments, []))
    assert getattr(job, field) == value
    others = {*DECLARED.values(), "model", "class_name", "key", "network", "model_check"} - {field}
    if "--mean" in arguments:
        others -= {"mean", "std"}
    assert {name: getattr(job, name) for name in others} == {
        name: getattr(plain, name) for name in others
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"classes": 10, "act": "relu"}', {"classes": 10, "act": "relu"}), ("[3]", [3])],
)
def test_arguments_of_a_network_are_json(text: str, value: object) -> None:
    which = given("--network", "net.py:Net", "--network-args", text)
    assert Job(["x"], **which.keywords()).network_args == value


@pytest.mark.parametrize("text", ["", "{", "3", '"a"', "{'a': 1}", '{"a": 1, "a": 2}'])
def test_arguments_that_are_no_json_object_or_list_are_wrong_usage(text: str) -> None:
    which = given("--network", "net.py:Net", "--network-args", text)
    with pytest.raises(BatchdigitError, match="--network-args ") as caught:
        which.keywords()
    assert caught.value.exit_code == 2
    assert '{"classes": 10}' in caught.value.remedy


def test_declaration_stands_apart_for_those_who_want_it_so() -> None:
    which = given("--mean", "0.5", "--std", "0.25", "--network", "a:B", check=False)
    found = which.apart()
    assert found.pop("declaration") == Declaration(mean=(0.5,), std=(0.25,))
    assert found == {
        "model": PACKAGED_WEIGHTS,
        "class_name": None,
        "key": None,
        "network": "a:B",
        "network_args": None,
    }


def test_model_that_is_not_named_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    which = given()
    monkeypatch.setenv("BATCHDIGIT_MODEL", "mine.pt")
    assert which.model == which.keywords()["model"] == Path("mine.pt")
    assert given("--model", "other.pt").model == Path("other.pt")


def test_only_a_network_is_code_that_runs() -> None:
    assert given("--network", "net.py:Net").runs_code
    assert not given("--model", "net.pt", "--class-name", "Net").runs_code
