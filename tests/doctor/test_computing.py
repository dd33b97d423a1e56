from pathlib import Path

import pytest

import batchdigit
from batchdigit.doctor.findings import PROBLEM, WARNING
from batchdigit.job import PACKAGED_WEIGHTS
from tests.support import own_code
from tests.support.doctor import check, examined_without_gpu, faults_of


def test_onnx_runtime_that_is_broken(tmp_path: Path) -> None:
    broken = "raise RuntimeError('no luck')"
    code, findings = examined_without_gpu(tmp_path, onnxruntime=broken)
    assert code == 0
    faults = faults_of(findings)
    assert faults["onnxruntime"].status == faults["backend"].status == WARNING
    assert "no luck" in faults["onnxruntime"].found
    assert "PyTorch computes instead" in faults["backend"].found
    assert "right by torch" in findings[-2].found

    batchdigit.convert_model(PACKAGED_WEIGHTS, tmp_path / "CNN.onnx")
    code, findings = examined_without_gpu(tmp_path, "-m", "CNN.onnx", onnxruntime=broken)
    assert code == 1
    faults = faults_of(findings)
    assert faults["onnxruntime"].status == faults["backend"].status == PROBLEM


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise ModuleNotFoundError('no luck', name='torch')", "no luck"),
        ("import os; os.kill(os.getpid(), 4)", "ended with SIGILL"),
    ],
)
def test_torch_that_is_broken(tmp_path: Path, code: str, text: str) -> None:
    returned, findings = examined_without_gpu(tmp_path, torch=code)
    assert returned == 0
    assert faults_of(findings)["torch"].status == WARNING
    assert text in faults_of(findings)["torch"].found
    assert "right by onnxruntime" in findings[-2].found

    returned, findings = examined_without_gpu(tmp_path, torch=code, onnxruntime="raise ImportError")
    assert returned == 1
    assert faults_of(findings)["backend"].status == PROBLEM
    assert "no digits were predicted" in faults_of(findings)["trial"].found


def test_onnx_file_that_a_model_toml_names_needs_onnx_runtime(tmp_path: Path) -> None:
    batchdigit.convert_model(PACKAGED_WEIGHTS, tmp_path / "CNN.onnx")
    (tmp_path / "model.toml").write_text('weights = "CNN.onnx"')
    (finding,) = check("backend", model=tmp_path / "model.toml")
    assert "auto chooses ONNX Runtime: the model is an ONNX file" in finding.found
    broken = {"onnxruntime": "raise RuntimeError('no luck')"}
    code, findings = examined_without_gpu(tmp_path, "-m", "model.toml", **broken)
    assert code == 1
    faults = faults_of(findings)
    assert faults["onnxruntime"].status == faults["backend"].status == PROBLEM


def test_network_of_the_users_own_needs_pytorch(tmp_path: Path) -> None:
    own_code.script(tmp_path)
    options = ["--model", "net.pt", "--network", "net.py:Net"]
    code, findings = examined_without_gpu(tmp_path, *options, torch="raise ImportError('no luck')")
    assert code == 1
    faults = faults_of(findings)
    assert faults["torch"].status == faults["backend"].status == PROBLEM
    assert faults["backend"].remedy == "repair torch"
    assert faults["model"].status == PROBLEM
    assert "no digits were predicted" in faults["trial"].found
