import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import batchdigit
from batchdigit.doctor import checking, files
from batchdigit.doctor.findings import OK, PROBLEM, WARNING
from batchdigit.errors import StoppedBySignal
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.sources import find
from batchdigit.system.lock import hold_output
from batchdigit.system.signals import signals_as_exceptions
from tests.support import own_code
from tests.support.doctor import check, examined, faults_of, interrupt
from tests.support.machines import fake_driver
from tests.support.platforms import needs_linux
from tests.support.reports import OLD
from tests.support.samples import Program, files_in


def odd_models(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Models that cannot be used, with the check that finds out and what it says."""
    good = batchdigit.CNN().state_dict()
    contents = {
        "nan": (good | {"fc.4.bias": torch.full((10,), torch.nan)}, "model", "not finite"),
        "other": (torch.nn.Linear(2, 2).state_dict(), "model", "holds another network"),
        "huge": (
            good
            | {
                "fc.0.bias": torch.full((1024,), 3e38),
                "fc.2.weight": torch.full((128, 1024), 3e38),
            },
            *("trial", "not finite"),
        ),
    }
    for name, (state, place, text) in contents.items():
        torch.save(state, folder / f"{name}.pt")
        yield folder / f"{name}.pt", place, text
    yield folder / "missing.pt", "model", "No such file"


def test_model_that_a_run_would_refuse(tmp_path: Path) -> None:
    for path, place, text in odd_models(tmp_path):
        (finding,) = check(place, model=path, device="cpu")
        assert finding.status == PROBLEM, path
        assert text in finding.found


def test_model_with_something_unknown_beside_it_is_warned_of(tmp_path: Path) -> None:
    good = batchdigit.CNN().state_dict()
    other = {name: tensor + 1 for name, tensor in good.items()}
    torch.save({"a": good, "b": other, "config": Config()}, tmp_path / "CNN.pt")
    (refused,) = check("model", model=tmp_path / "CNN.pt")
    assert refused.status == PROBLEM
    found = check("model", model=tmp_path / "CNN.pt", key="b")
    assert [finding.status for finding in found] == [OK, WARNING]
    assert f"also names {__name__}.Config" in found[1].found
    assert "be sure of" in found[1].remedy


class Config:
    """The settings of a training, of a class that nobody else knows."""


def test_model_that_the_environment_names_is_damaged(program: Program, tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(PACKAGED_WEIGHTS.read_bytes()[:100_000])
    code, findings = examined(program, env=os.environ | {"BATCHDIGIT_MODEL": "cut.pt"})
    assert code == 1
    faults = faults_of(findings)
    assert faults["model"].status == PROBLEM
    assert faults["model"].found.startswith(
        "cut.pt ($BATCHDIGIT_MODEL): the model cut.pt is damaged"
    )
    assert faults["trial"].status == WARNING  # there is no usable model
    assert faults["trial"].remedy == "repair model first"


def test_model_of_ones_own_is_said_to_predict_not_to_be_right(
    program: Program, tmp_path: Path
) -> None:
    torch.save(batchdigit.CNN(3), tmp_path / "three.pt")
    code, findings = examined(program, "-m", "three.pt")
    assert code == 0
    found = {finding.name: finding.found for finding in findings}
    assert found["model"].startswith("three.pt: whole model")
    assert "3 classes" in found["model"]
    assert found["trial"].startswith("10 of 10 packaged digits predicted by ")


@pytest.mark.parametrize(
    ("out", "text"),
    [
        ("nowhere/preds.csv", "No such file or directory"),
        ("plain/preds.csv", "Not a directory"),
        ("folder.csv", "it is a folder"),
        ("/proc/preds.csv", "cannot write /proc/preds.csv"),
    ],
)
def test_report_that_cannot_be_written(tmp_path: Path, out: str, text: str) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "folder.csv").mkdir()
    (finding,) = check("output", out=tmp_path / out)
    assert finding.status == PROBLEM
    assert text in finding.found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "plain"]


def test_folder_of_the_report_that_is_missing(program: Program, tmp_path: Path) -> None:
    code, findings = examined(program, "--out", "nowhere/preds.csv")
    assert code == 1
    remedy = "create its folder first, or run with --parents"  # doctor itself makes no folders
    assert faults_of(findings)["output"].remedy == remedy
    assert not any(tmp_path.iterdir())


def test_report_that_another_run_writes(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    out.write_text(OLD)
    with hold_output(out):
        (finding,) = check("output", out=out)
    assert finding.status == WARNING
    assert "being written by another run" in finding.found
    assert "or run with --wait SECONDS" in finding.remedy
    (finding,) = check("output", out=out)
    assert finding.status == OK
    assert out.read_text() == OLD
    assert list(tmp_path.iterdir()) == [out]


def test_folder_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MIN_SPACE", 1 << 60)  # more than any disk has
    (finding,) = check("output", out=tmp_path / "preds.csv")
    assert finding.status == WARNING
    assert finding.found.endswith("B free")
    assert finding.remedy.startswith("make room")


@needs_linux("/proc")
def test_working_folder_matters_less_than_the_folder_of_a_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/proc")  # where nobody can write, not even root
    (finding,) = check("output")
    assert finding.status == WARNING
    (finding,) = check("output", out=Path("/proc/preds.csv"))
    assert finding.status == PROBLEM


@pytest.mark.parametrize("call", ["fdopen", "fsync", "link"])
def test_signal_at_the_wrong_moment_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    interrupt(monkeypatch, os, call)
    with pytest.raises(StoppedBySignal), signals_as_exceptions():
        check("output", out=tmp_path / "preds.csv")
    assert not any(tmp_path.iterdir())


@needs_linux("checks run in forks, which inherit what is patched")
def test_cache_matters_with_a_gpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = fake_driver(tmp_path, monkeypatch)
    (tmp_path / "plain").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "plain"))
    (finding,) = check("cache")
    assert (finding.status, "cannot be written" in finding.found) == (OK, True)
    device.touch()
    (finding,) = check("cache")
    assert (finding.status, "is not a folder" in finding.found) == (WARNING, True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    (finding,) = check("cache")
    assert (finding.status, finding.found[-14:]) == (OK, "can be written")
    assert not (tmp_path / "new").exists()


def test_source_without_images(program: Program, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    code, findings = examined(program, ".")
    assert code == 1
    assert faults_of(findings)["source"].status == PROBLEM
    assert faults_of(findings)["source"].found == "no images in . (left out: 1 .txt)"
    (missing,) = check("source", tmp_path / "none")
    assert missing.status == PROBLEM
    assert "No such file or directory" in missing.found


def test_files_that_a_run_would_leave_out_are_named(digits: Path) -> None:
    for name in ("a.pdf", "b.pdf", "c.zip", "README"):
        (digits / name).write_bytes(b"words")
    (finding,) = check("source", digits)
    assert finding.status == OK
    assert finding.found == (
        "10 images; left out: 2 .pdf, 1 .zip, 1 without ending (README, a.pdf, b.pdf, …)"
    )


@needs_linux("checks run in forks, which inherit what is patched")
def test_images_that_nothing_installed_reads(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.heic", "b.HEIF"):
        (digits / name).touch()
    monkeypatch.setattr(files, "heif_version", lambda: "")
    (finding,) = check("source", digits)
    assert finding.status == WARNING
    assert finding.found == "12 images; 2 HEIC, which nothing installed reads"
    assert finding.remedy.startswith('pip install "batchdigit[heif]"')
    monkeypatch.setattr(files, "heif_version", lambda: "1.0")
    assert check("source", digits)[0].status == OK


@needs_linux("checks run in forks, which inherit what is patched")
def test_source_that_cannot_be_read_all(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (digits / "0.png").symlink_to(digits / "01.png")
    (finding,) = check("source", digits)
    assert finding.status == WARNING
    assert "0.png: a symbolic link" in finding.found
    found = files_in(tmp_path, [b"a.png", b"closed/"])
    monkeypatch.setattr(find, "find_images", lambda _job: found)
    (finding,) = check("source", digits)
    assert finding.status == WARNING
    assert finding.found == "1 image, 1 folder that cannot be listed"


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """A user's own network and its weights, as options of a job."""
    own_code.script(tmp_path)
    return {"model": tmp_path / "net.pt", "network": f"{tmp_path / 'net.py'}:Net"}


def test_weights_are_compared_with_the_class_that_the_user_names(
    own: dict[str, Any], tmp_path: Path
) -> None:
    (finding,) = check("model", **own)
    assert finding.status == OK
    assert finding.found.startswith(f"{own['model']}: state dict, for {own['network']}, SHA-256 ")
    (finding,) = check("model", **own | {"network": f"{tmp_path / 'net.py'}:Letters"})
    assert finding.status == PROBLEM
    assert "fc.weight" in finding.found
    (finding,) = check("model", **own | {"network": f"{tmp_path / 'net.py'}:Nett"})
    assert finding.status == PROBLEM
    assert finding.remedy == f"name one that is there, as {tmp_path / 'net.py'}:Net"


def test_what_declares_the_input_is_named(own: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('weights = "net.pt"\n[input]\nrange = "0-255"\n')
    _, declared = check("model", **own)
    assert declared.status == OK
    assert declared.found == f"its input is declared by {tmp_path / 'model.toml'}"
    for model in (own["model"], tmp_path / "model.toml"):
        _, declared = check("model", **own | {"model": model, "mean": 0.5, "std": 0.25})
        assert declared.found == (
            f"its input is declared by --mean 0.5 --std 0.25 and {tmp_path / 'model.toml'}"
        )
    (tmp_path / "model.toml").write_text("[input]\nmaen = 1")
    (finding,) = check("model", **own)
    assert finding.status == PROBLEM
    assert "model.toml" in finding.found
    assert finding.remedy == "write mean"


def test_onnx_file_of_any_network_is_a_model(tmp_path: Path) -> None:
    own_code.script(tmp_path)
    network = f"{tmp_path / 'net.py'}:Net"
    batchdigit.convert_model(tmp_path / "net.pt", tmp_path / "net.onnx", network=network)
    (finding,) = check("model", model=tmp_path / "net.onnx")
    assert finding.status == OK
    assert ": ONNX graph by pytorch " in finding.found
    assert ", 10 classes, " in finding.found


@needs_linux("checks run in forks, which inherit what is patched")
@pytest.mark.parametrize(
    ("line", "found", "remedy"),
    [
        ("while True: pass", "no answer within 5 seconds", "net.py:Net does not end"),
        ("os._exit(7)", "ended with exit code 7", "net.py:Net ends it"),
    ],
)
def test_code_that_does_not_end_or_ends_all_is_a_problem_of_the_model_alone(
    own: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, line: str, found: str,
    remedy: str,
) -> None:  # fmt: skip
    code = own_code.CODE.replace("self.sign = sign", line, 1)
    (tmp_path / "net.py").write_text(code)
    monkeypatch.setattr(checking, "SECONDS_TO_ANSWER", 5.0)
    (finding,) = check("model", **own)
    assert finding.status == PROBLEM
    assert found in finding.found
    assert finding.remedy.endswith(remedy)
