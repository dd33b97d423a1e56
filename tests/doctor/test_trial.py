import os
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from PIL import Image, WebPImagePlugin

from batchdigit import Job, version
from batchdigit.doctor import examination
from batchdigit.doctor.examination import CHECKS, examine
from batchdigit.doctor.findings import OK, PROBLEM, WARNING
from batchdigit.errors import StoppedBySignal
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models import digits
from batchdigit.system.signals import signals_as_exceptions
from tests.support import own_code
from tests.support.doctor import check, examined, interrupt
from tests.support.modelfiles import trained_on
from tests.support.platforms import needs_linux
from tests.support.samples import SAMPLES, Program


@needs_linux("checks run in forks, which inherit what is patched")
def test_pillow_that_cannot_do_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setattr(WebPImagePlugin, "SUPPORTED", False)
    monkeypatch.delitem(Image.SAVE, "WEBP")
    (finding,) = check("decoder")
    assert finding.status == WARNING
    assert finding.found.startswith("cannot read WEBP: ")
    monkeypatch.delitem(Image.SAVE, "PNG")
    png, webp = check("decoder")
    assert (png.status, webp.status) == (PROBLEM, WARNING)
    assert png.found.startswith("cannot read PNG: ")


@needs_linux("checks run in forks, which inherit what is patched")
def test_heic_is_read_by_a_package_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "heif_version", lambda: "")
    (finding,) = check("decoder")
    assert finding.status == OK
    assert finding.found.endswith('TGA; HEIC needs pip install "batchdigit[heif]"')
    monkeypatch.setattr(version, "heif_version", lambda: "1.0")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (finding,) = check("decoder")
    assert finding.status == WARNING
    assert finding.found.startswith("cannot read HEIC: ModuleNotFoundError")


@needs_linux("checks run in forks, which inherit what is patched")
def test_processes_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    start = BaseProcess.start

    def refuse_readers(process: BaseProcess) -> None:
        if process.daemon:  # unlike the process that makes the check
            raise BlockingIOError(11, "Resource temporarily unavailable")
        start(process)

    monkeypatch.setattr(BaseProcess, "start", refuse_readers)
    monkeypatch.setattr(
        examination, "CHECKS", {name: CHECKS[name] for name in ("workers", "trial")}
    )
    found = examine(Job((SAMPLES,), device="cpu"), with_source=False)
    findings = {finding.name: finding for finding in found}
    assert findings["workers"].status == PROBLEM
    assert "Resource temporarily unavailable" in findings["workers"].found
    assert "--workers" in findings["workers"].remedy
    assert findings["trial"].found.startswith("10 of 10 packaged digits right")  # without workers


@needs_linux("checks run in forks, which inherit what is patched")
def test_digits_that_are_predicted_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    others = digits.packaged_digits()[::-1]
    monkeypatch.setattr(digits, "packaged_digits", lambda: others)
    (finding,) = check("trial", device="cpu")
    assert finding.status == PROBLEM
    assert finding.found.startswith("only 0 of 10 packaged digits right")


def test_packaged_digits_are_in_the_order_that_the_trial_expects() -> None:
    from batchdigit.backends.onnx_backend import OnnxBackend
    from batchdigit.batches import Batch

    backend = OnnxBackend()
    predictor = backend.predictor(backend.load(read_model_file(PACKAGED_WEIGHTS), Job(["x"])), 1)
    (found,) = predictor.predict([Batch.of(digits.packaged_digits())])
    assert (found.labels[:, 0] == found.indices % 10).mean() > 0.99


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    for name in ("workers", "trial"):
        (finding,) = check(name)
        assert finding.status == WARNING
        assert "TMPDIR" in finding.remedy


@pytest.mark.parametrize(("where", "call"), [(tempfile, "mkdtemp"), (os, "unlink")])
def test_signal_at_the_wrong_moment_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, call: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    interrupt(monkeypatch, where, call)
    with pytest.raises(StoppedBySignal), signals_as_exceptions():
        check("workers")
    assert not any(tmp_path.iterdir())


def test_model_trained_on_other_numbers_is_warned_of_and_nothing_is_remembered(
    program: Program, tmp_path: Path
) -> None:
    torch.save(trained_on(0.5, 0.5), tmp_path / "CNN.pt")
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": ""}
    code, findings = examined(program, "--model", "CNN.pt", env=environment)
    assert code == 0
    (finding,) = (finding for finding in findings if finding.name == "known digits")
    assert finding.status == WARNING
    assert "% with --mean 0.5 --std 0.5" in finding.found
    assert list(home.iterdir()) == []
    flags = ["--mean", "0.5", "--std", "0.5"]
    for options, found in ((flags, [OK]), (["--no-model-check"], [])):
        _, findings = examined(program, "--model", "CNN.pt", *options, env=environment)
        assert [one.status for one in findings if one.name == "known digits"] == found


def test_network_of_the_users_own_is_tried_apart_and_what_it_prints_is_not_shown(
    program: Program, tmp_path: Path
) -> None:
    own_code.script(tmp_path)
    options = ["--model", "net.pt", "--network", "net.py:talkative"]
    code, findings = examined(program, *options)
    found = {finding.name: finding for finding in findings}
    assert code == 0, findings
    assert found["backend"].found == "auto chooses PyTorch: it computes a network of your own"
    assert found["trial"].status == found["known digits"].status == OK
    assert found["trial"].found == "10 of 10 packaged digits predicted by torch on cpu"
    code, findings = examined(program, *options, "--range", "0-255", "--expects", "dark-on-light")
    found = {finding.name: finding for finding in findings}
    assert code == 0
    assert found["known digits"].status == WARNING
    assert "leave --range 0-255 --expects dark-on-light off" in found["known digits"].remedy


def test_network_that_fails_on_images_is_a_problem_of_the_trial(
    program: Program, tmp_path: Path
) -> None:
    own_code.script(tmp_path)
    code, findings = examined(program, "--model", "net.pt", "--network", "net.py:Raises")
    assert code == 1
    found = {finding.name: finding for finding in findings}
    assert found["model"].status == OK
    assert found["trial"].status == PROBLEM
    assert "ValueError: out of order" in found["trial"].found
