"""``batchdigit bench``: what is refused before anything is measured."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support import own_code
from tests.support.programs import app
from tests.support.samples import Program

runner = CliRunner()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "1"],
        ["--backends", "tensorflow"],
        ["--backends", ","],
        ["--devices", "auto"],
        ["--devices", "tpu"],
        ["--precisions", "fp8"],
        ["--batch-sizes", "0"],
        ["--batch-sizes", "1,many"],
        ["--workers", "-1"],
        ["--workers", "999"],
        ["--preprocess", "magic"],
        ["--out", "bench.xls"],
        ["--plot", "bench.pdf"],
        [""],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str]) -> None:
    done = runner.invoke(app, ["bench", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert "; " in line


@pytest.mark.parametrize("text", ["10", "-1%", "x", "1001%"])
def test_share_that_is_no_percentage_is_wrong_usage(text: str) -> None:
    done = runner.invoke(app, ["bench", "compare", "a.json", "b.json", f"--fail-over={text}"])
    assert done.exit_code == 2
    assert "is not a percentage" in done.stderr


def test_measurement_that_is_missing_is_wrong_usage(tmp_path: Path) -> None:
    done = runner.invoke(app, ["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--network", "net.py"], 2),
        (["--network", "net.py:Net", "--network-args", "{"], 2),
        (["--network-args", "[1]"], 2),
        (["--network", "net.py:Net", "--backends", "onnxruntime"], 2),
        (["--network", "net.py:Net", "--mean", "0.5"], 2),
        (["--input-size", "0"], 2),
        (["--network", "net.py:Nett"], 65),
        (["--network", "net.py:Raises"], 65),
        (["--network", "net.py:Net", "--input-size", "32"], 65),
        (["--model", "none.toml"], 65),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_network_that_cannot_be_measured_is_one_line_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    own_code.script(tmp_path)
    monkeypatch.chdir(tmp_path)
    few = ["--seconds", "5", "--devices", "cpu", "--precisions", "fp32", "--out", "bench.json"]
    done = runner.invoke(app, ["bench", "--model", "net.pt", *few, *arguments])
    assert (done.exit_code, done.stdout) == (code, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith("batchdigit: ")
    assert "; " in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bench.json").exists()


def test_measurement_of_a_network_is_one_json_object_whatever_it_prints(
    program: Program, tmp_path: Path, digits: Path
) -> None:
    own_code.script(tmp_path)
    done = program(
        *("bench", digits, "--json", "--seconds", "5", "--devices", "cpu", "--precisions", "fp32"),
        *("--workers", "0", "--batch-sizes", "8", "--range", "0-255"),
        *("--model", "net.pt", "--network", "net.py:talkative"),
        errors="replace",  # several processes print at once
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["model"]["network"].endswith("net.py:talkative")
    assert measured["model"]["range"] == "0-255"
    command = measured["check"]["command"]
    assert "--model net.pt --network net.py:talkative --range 0-255" in command
