from pathlib import Path

import pytest

import batchdigit
from batchdigit.doctor.findings import PROBLEM, WARNING
from batchdigit.job import PACKAGED_WEIGHTS
from tests.support.doctor import examined_without_gpu, faults_of


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
