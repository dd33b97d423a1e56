"""``batchdigit model``: exit codes, and where its output goes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import batchdigit
from batchdigit.errors import BatchdigitError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.system import regular
from tests.support.modelfiles import saved, trained_on
from tests.support.programs import app

runner = CliRunner()
GOOD = batchdigit.CNN().state_dict()


def test_inspection_of_a_good_file_ends_with_0() -> None:
    done = runner.invoke(app, ["model", "inspect", str(PACKAGED_WEIGHTS)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{PACKAGED_WEIGHTS}\n")
    as_json = runner.invoke(app, ["model", "inspect", str(PACKAGED_WEIGHTS), "--json"])
    assert json.loads(as_json.stdout)["classes"] == 10


@pytest.mark.parametrize("content", [None, b"", b"hello"], ids=["missing", "empty", "text"])
def test_inspection_of_a_file_that_a_run_would_refuse_ends_with_65(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "CNN.pt").write_bytes(content)
    done = runner.invoke(app, ["model", "inspect", str(tmp_path / "CNN.pt")])
    assert done.exit_code == 65
    assert "CNN.pt" in done.stdout + done.stderr


def test_conversion_writes_a_file_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "CNN.safetensors"
    done = runner.invoke(app, ["model", "convert", str(PACKAGED_WEIGHTS), str(target)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "checked: " in done.stderr
    assert target.stat().st_size > 1_000_000


class Config:
    """The settings of a training, of a class that nobody else knows."""


def test_inspection_lists_what_is_beside_the_weights_and_how_to_choose(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    averaged = {name: tensor + 1 for name, tensor in GOOD.items()}
    torch.save({"model": GOOD, "ema": {"model": averaged}, "config": Config()}, path)
    refused = runner.invoke(app, ["model", "inspect", str(path)])
    assert refused.exit_code == 65
    assert re.search("keys +model, ema.model\n", refused.stdout)
    assert "holds several models, under model, ema.model" in refused.stdout
    assert "REFUSED" not in refused.stdout
    taken = runner.invoke(app, ["model", "inspect", str(path), "--key", "ema"])
    assert taken.exit_code == 0
    assert re.search(rf"{__name__}.Config +unknown, not called\n", taken.stdout)
    wrong = runner.invoke(app, ["model", "inspect", str(path), "--key", "best", "--json"])
    assert wrong.exit_code == 65
    assert json.loads(wrong.stdout)["remedy"] == (
        "choose from model, ema.model, or leave the key out"
    )


@pytest.mark.parametrize("ending", ["pt", "safetensors", "onnx"])
def test_conversion_takes_the_model_that_the_key_leads_to(tmp_path: Path, ending: str) -> None:
    path, target = tmp_path / "last.pt", tmp_path / f"ema.{ending}"
    averaged = GOOD | {"fc.4.bias": GOOD["fc.4.bias"] + 1}
    torch.save({"model": GOOD, "ema": averaged}, path)
    done = runner.invoke(app, ["model", "convert", str(path), str(target), "--key", "ema"])
    assert done.exit_code == 0, done.stderr
    if ending == "onnx":
        refused = runner.invoke(app, ["model", "inspect", str(target), "--key", "ema"])
        assert "is an ONNX file, which holds one model; leave the key out" in refused.stdout
    else:
        state = batchdigit.load_checkpoint(target).state
        assert torch.equal(state["fc.4.bias"], averaged["fc.4.bias"])


@pytest.mark.parametrize(
    ("name", "code"), [("CNN.xyz", 2), ("there.safetensors", 73), ("no/CNN.pt", 73)]
)
def test_target_that_cannot_be_written_is_one_line(tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "there.safetensors").write_text("old")
    done = runner.invoke(app, ["model", "convert", str(PACKAGED_WEIGHTS), str(tmp_path / name)])
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert (tmp_path / "there.safetensors").read_text() == "old"


@pytest.mark.parametrize("arguments", [["inspect"], ["convert", "a.pt"], ["inspect", "a", "--no"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert runner.invoke(app, ["model", *arguments]).exit_code == 2


def test_inspection_says_how_many_known_digits_are_read_right(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    done = runner.invoke(app, ["model", "inspect", str(path)])
    assert done.exit_code == 0
    assert " of 300 read right\n" in done.stdout
    assert "% with --mean 0.5 --std 0.5; " in done.stderr
    declared = runner.invoke(
        app, ["model", "inspect", str(path), "--json", "--mean", "0.5", "--std", "0.5"]
    )
    assert declared.stderr == ""
    assert json.loads(declared.stdout)["known_digits"]["of"] == 300
    unchecked = runner.invoke(app, ["model", "inspect", str(path), "--no-model-check"])
    assert (unchecked.exit_code, unchecked.stderr) == (0, "")
    assert "read right" not in unchecked.stdout


def test_inspection_reads_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what is said of it could be of two files."""
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    read: list[object] = []

    def read_regular(*arguments: Any, **options: Any) -> Any:
        read.append(arguments)
        return regular.read_regular(*arguments, **options)

    monkeypatch.setattr("batchdigit.modelfiles.file.read_regular", read_regular)
    done = runner.invoke(app, ["model", "inspect", str(path)])
    assert " of 300 read right\n" in done.stdout
    assert len(read) == 1


def test_inspection_without_any_backend_says_that_no_digits_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_backend(*_arguments: object) -> None:
        raise BatchdigitError("cannot load PyTorch", "pip install torch")

    monkeypatch.setattr("batchdigit.backends.known_digits.open_backend", no_backend)
    path = saved(tmp_path / "CNN.pt", trained_on(0.5, 0.5))
    done = runner.invoke(app, ["model", "inspect", str(path)])
    assert done.exit_code == 0
    assert "no known digits were read: cannot load PyTorch" in done.stderr
