"""``batchdigit run`` with networks of the user's own: what they compute, and what is refused."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.support import own_code
from tests.support.own_models import own, plain_loop
from tests.support.platforms import needs_linux
from tests.support.programs import app
from tests.support.reports import UNDECLARED
from tests.support.samples import Program

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Label ten digits in a folder with a user's script and its weights, in this process."""
    own_code.script(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def invoke(*arguments: str | Path) -> Result:
        words = ["--workers", "0", "--device", "cpu", "--preprocess", "exact", *arguments]
        return CliRunner().invoke(app, ["run", str(digits), *map(str, words)])

    return invoke


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def predictions(path: Path) -> list[int]:
    return [int(row["prediction"]) for row in rows(path)]


NET = ("--model", "net.pt", "--network", "net.py:Net")


def test_report_is_that_of_the_plain_loop(run: Run, digits: Path) -> None:
    done = run(*NET, "--out", "out.csv")
    assert done.exit_code == 0, done.output
    expected_NK = plain_loop(own("Linear"), sorted(digits.iterdir()))
    assert predictions(Path("out.csv")) == expected_NK.argmax(1).tolist()
    confidences = [float(row["confidence"]) for row in rows(Path("out.csv"))]
    assert confidences == pytest.approx(expected_NK.max(1).tolist(), abs=1e-4)


def test_network_of_a_notebook_is_that_of_a_script(run: Run, tmp_path: Path) -> None:
    own_code.notebook(tmp_path)
    assert run(*NET, "--out", "script.csv").exit_code == 0
    done = run("--model", "net.pt", "--network", "net.ipynb:Net", "--out", "notebook.csv")
    assert done.exit_code == 0, done.output
    assert Path("notebook.csv").read_bytes() == Path("script.csv").read_bytes()


@pytest.mark.parametrize("arguments", ['{"sign": -1}', "[-1]"])
def test_arguments_are_those_of_the_class(run: Run, arguments: str) -> None:
    assert run(*NET, "--out", "plain.csv", "--probs").exit_code == 0
    options = ("--network-args", arguments, "--no-model-check", "--probs")
    assert run(*NET, *options, "--out", "other.csv").exit_code == 0
    least = [
        min(range(10), key=lambda number: float(row[f"prob_{number}"]))
        for row in rows(Path("plain.csv"))
    ]
    assert predictions(Path("other.csv")) == least


@pytest.mark.parametrize(
    "other",
    [
        ["--network", "net.py:Backwards"],
        ["--network-args", "[-1]"],
        ["--mean", "0.5", "--std", "-1"],
        ["--transpose"],
        ["--expects", "dark-on-light"],
    ],
    ids=" ".join,
)
def test_rows_of_another_network_of_the_same_weights_are_never_reused(
    run: Run, other: list[str]
) -> None:
    usual = (*NET, "--out", "out.csv", "--update", "--no-model-check", "--json")
    assert run(*usual).exit_code == 0
    before = Path("out.csv").read_bytes()
    again = json.loads(run(*usual).stdout)
    assert (again["reused"], again["predicted"]) == (10, 0)
    done = run(*usual, *other)
    assert json.loads(done.stdout)["reused"] == 0
    option = other[0] if "network" in other[0] else "the declared input"
    assert f"differs in {option}" in done.stderr
    assert Path("out.csv").read_bytes() != before


def test_rows_are_reused_wherever_the_same_network_lies(run: Run, tmp_path: Path) -> None:
    usual = ("--out", "out.csv", "--update", "--json")
    assert run(*NET, *usual).exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    shutil.copy("net.py", "elsewhere/mine.py")
    done = run("--model", "net.pt", "--network", "elsewhere/mine.py:Net", *usual)
    assert json.loads(done.stdout)["reused"] == 10


TOML = """\
weights = "net.pt"
labels = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
fit = "exact"

[input]
mean = 0.5
std = 0.25
"""


@pytest.mark.parametrize("given", ["net.pt", "model.toml"])
def test_model_toml_says_what_options_do_not(run: Run, tmp_path: Path, given: str) -> None:
    prepared = own("Linear", lambda pixels: (pixels - 0.5) / 0.25)
    torch.save(prepared.state_dict(), tmp_path / "net.pt")
    flags = ("--mean", "0.5", "--std", "0.25")
    assert run(*NET, *flags, "--out", "flags.csv").exit_code == 0
    (tmp_path / "model.toml").write_text(TOML)
    done = run("--model", given, "--network", "net.py:Net", "--out", "out.csv")
    assert done.exit_code == 0, done.output
    assert "known digits" not in done.stderr
    names = json.loads(TOML.split("labels = ")[1].splitlines()[0])
    by_name = [names.index(row["prediction"]) for row in rows(tmp_path / "out.csv")]
    assert by_name == predictions(tmp_path / "flags.csv")
    account = json.loads((tmp_path / "out.csv.run.json").read_text())["model"]
    assert (account["mean"], account["std"]) == ([0.5], [0.25])
    assert (account["path"], account["declared_by"]) == ("net.pt", ["model.toml"])
    done = run("--model", given, "--network", "net.py:Net", "--mean=0", "--std=1", "--out=a.csv")
    account = json.loads((tmp_path / "a.csv.run.json").read_text())["model"]
    assert account["mean"] == [0.0]
    assert account["declared_by"] == ["--mean 0 --std 1", "model.toml"]


def test_account_tells_the_code_and_all_that_is_declared(run: Run) -> None:
    done = run(*NET, "--json", "--out", "out.csv")
    account = json.loads(done.stdout)["model"]
    known = account.pop("known_digits")
    assert (known["of"], known["better"]) == (1000, None)
    assert account == {
        "path": "net.pt",
        "sha256": hashlib.sha256(Path("net.pt").read_bytes()).hexdigest(),
        "kind": "state dict",
        "format": "PyTorch archive",
        "classes": 10,
        "network": "net.py:Net",
        "network_sha256": hashlib.sha256(Path("net.py").read_bytes()).hexdigest(),
        **UNDECLARED,
    }


def test_wrong_declaration_is_warned_of_even_where_messages_are_not_wanted(run: Run) -> None:
    done = run(*NET, "--mean", "0.5", "--std", "0.5", "--quiet", "--out", "out.csv")
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: the model net.pt reads ")
    assert "right with --mean 0.5 --std 0.5, but " in line
    assert run(*NET, "--quiet", "--out", "out.csv").stderr == ""


REFUSED: dict[str, tuple[list[str], int]] = {
    "no such file": (["--network", "none.py:Net"], 65),
    "no such module": (["--network", "no.such.module:Net"], 65),
    "no class is named": (["--network", "net.py"], 2),
    "no such class": (["--network", "net.py:Nett"], 65),
    "no network": (["--network", "net.py:os"], 65),
    "arguments that are no JSON": ([*NET[2:], "--network-args", "sign=1"], 2),
    "arguments that it does not take": ([*NET[2:], "--network-args", '{"depth": 3}'], 65),
    "arguments without a network": (["--network-args", "[1]"], 2),
    "a backend that runs no code": ([*NET[2:], "--backend", "onnxruntime"], 2),
    "weights of another network": (["--network", "net.py:Letters"], 65),
    "a forward that raises": (["--network", "net.py:Raises"], 65),
    "a size that it does not take": ([*NET[2:], "--input-size", "32"], 65),
    "a size that is none": ([*NET[2:], "--input-size", "0"], 2),
    "two channels": ([*NET[2:], "--channels", "2"], 2),
    "a mean alone": ([*NET[2:], "--mean", "0.5"], 2),
    "a deviation of nothing": ([*NET[2:], "--mean", "0.5", "--std", "0"], 2),
    "a range that is none": ([*NET[2:], "--range", "0-2"], 2),
    "a polarity that is none": ([*NET[2:], "--expects", "grey"], 2),
    "a layout that is none": ([*NET[2:], "--layout", "chw"], 2),
    "a place that is none": ([*NET[2:], "--place", "crop"], 2),
    "scores that are none": ([*NET[2:], "--scores", "votes"], 2),
    "no ONNX file": (["--model", "text.onnx"], 65),
    "no TOML": (["--model", "text.toml"], 65),
    "code in a model.toml": (["--model", "code.toml"], 65),
    "a word that model.toml does not know": (["--model", "words.toml"], 65),
    "a model.toml without weights": (["--model", "empty.toml"], 65),
    "weights that are not there": (["--model", "lost.toml"], 65),
}


@pytest.mark.parametrize(("options", "code"), REFUSED.values(), ids=REFUSED)
def test_refusal_is_one_line_and_leaves_the_old_report_as_it_was(
    run: Run, tmp_path: Path, options: list[str], code: int
) -> None:
    for name, text in {
        "text.onnx": "words",
        "text.toml": "words",
        "code.toml": 'weights = "net.pt"\nnetwork = "net.py:Net"',
        "words.toml": 'weights = "net.pt"\n[input]\nmaen = 0.5',
        "empty.toml": "",
        "lost.toml": 'weights = "none.pt"',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "out.csv").write_text("the old report")
    done = run("--model", "net.pt", *options, "--force", "--out", "out.csv")
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert "; " in line
    assert (tmp_path / "out.csv").read_text() == "the old report"
    assert not (tmp_path / "out.csv.run.json").exists()


def test_network_beside_an_onnx_file_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["model", "convert", *_converted("net.onnx")])
    assert done.exit_code == 0, done.output
    done = run("--model", "net.onnx", "--network", "net.py:Net", "--out", "out.csv")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "leave --network off" in done.stderr
    assert not (tmp_path / "out.csv").exists()


def _converted(target: str) -> list[str]:
    return ["net.pt", target, *NET[2:]]


@pytest.mark.parametrize("name", ["Talkative", "talkative"])
def test_what_a_network_prints_is_no_part_of_the_report(
    program: Program, tmp_path: Path, digits: Path, name: str
) -> None:
    own_code.script(tmp_path)
    command = ("run", digits, "--model", "net.pt", "--workers", "0", "--preprocess", "exact")
    silent = program(*command, "--network", "net.py:Net")
    done = program(*command, "--network", f"net.py:{name}")
    assert done.returncode == 0, done.stderr
    assert silent.returncode == 0, silent.stderr
    assert done.stdout == silent.stdout
    prints = {"a print of __init__", "a print of forward", "what was held", "what C code prints"}
    if name == "talkative":
        prints.add("what another process prints")
    assert prints <= set(done.stderr.splitlines())


@pytest.mark.parametrize(
    "command",
    [
        ["run", "digits", "--workers", "0", "--out", "out.csv"],
        ["model", "check"],
        ["model", "inspect"],
        ["doctor"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("digits")
def test_what_a_network_prints_is_no_part_of_json(
    program: Program, tmp_path: Path, command: list[str]
) -> None:
    own_code.script(tmp_path)
    model: list[Any] = ["net.pt"] if command[0] == "model" else ["--model", "net.pt"]
    done = program(*command, *model, "--network", "net.py:talkative", "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


@needs_linux("/dev/full")
def test_full_disk_under_a_networks_report_is_one_line(
    program: Program, tmp_path: Path, digits: Path
) -> None:
    own_code.script(tmp_path)
    with Path("/dev/full").open("w") as full:
        done = program(
            *("run", digits, *NET, "--workers", "0", "--quiet"),
            capture_output=False, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert done.returncode == 73, done.stderr
    (line,) = done.stderr.splitlines()
    assert "No space left" in line


def test_reader_that_leaves_ends_a_network_without_a_traceback(
    program: Program, tmp_path: Path, digits: Path
) -> None:
    own_code.script(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = program(
            *("run", digits, *NET, "--workers", "0", "--quiet"),
            capture_output=False, stdout=writer, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (128 + 13, "")
