"""Which backend a job gets; both give the same rows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchdigit
from batchdigit import Job, UsageError
from batchdigit.backends import choice
from batchdigit.backends.choice import choose_backend
from tests.support.oracle import SeedRow
from tests.support.samples import SAMPLES, Program, save_grey


class InMemory:
    """A network in memory."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def forward(self, x: Any) -> Any:
        return x


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What the machine has; by default both backends, no GPU and no units for bfloat16."""
    has = {"gpu": False, "bf16": False, "onnxruntime": True, "torch": True}
    monkeypatch.setattr(choice, "may_have_gpu", lambda: has["gpu"])
    monkeypatch.setattr(choice, "has_bfloat16_units", lambda: has["bf16"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: has[name] or None)
    return has


def chosen(options: dict[str, Any]) -> tuple[str, bool]:
    job = Job((".",), **options)
    return choose_backend(job, is_onnx=job.model.suffix == ".onnx")


@pytest.mark.parametrize(
    ("options", "has", "backend"),
    [
        ({}, {}, "onnxruntime"),
        ({}, {"onnxruntime": False}, "torch"),
        ({}, {"gpu": True}, "torch"),
        ({"device": "cpu"}, {"gpu": True}, "onnxruntime"),
        ({"device": "cuda"}, {"gpu": True}, "torch"),
        ({"device": "mps"}, {}, "torch"),
        ({"precision": "bf16"}, {}, "torch"),
        ({"precision": "auto"}, {"bf16": True}, "torch"),
        ({"precision": "auto"}, {}, "onnxruntime"),
        ({"backend": "torch"}, {}, "torch"),
        ({"backend": "onnxruntime"}, {"gpu": True}, "onnxruntime"),
        ({"backend": "onnxruntime", "precision": "auto"}, {"bf16": True}, "onnxruntime"),
        ({"model": Path("CNN.onnx")}, {"onnxruntime": False}, "onnxruntime"),
        ({"model": Path("CNN.onnx")}, {"gpu": True}, "onnxruntime"),
        ({}, {"gpu": True, "torch": False}, "onnxruntime"),
        ({"precision": "auto"}, {"bf16": True, "torch": False}, "onnxruntime"),
        ({"network": "net.py:Net"}, {}, "torch"),
        ({"network": "net.py:Net", "backend": "torch"}, {}, "torch"),
        ({"model": InMemory()}, {}, "torch"),
        ({"model": InMemory(), "device": "cpu"}, {"torch": False}, "torch"),
    ],
)
def test_auto_takes_the_faster_one_that_can_do_the_job(
    machine: dict[str, bool], options: dict[str, Any], has: dict[str, bool], backend: str
) -> None:
    machine.update(has)
    assert chosen(options)[0] == backend


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "onnxruntime", "device": "cuda"}, "not on cuda; use --backend torch"),
        ({"backend": "onnxruntime", "precision": "fp16"}, "not in fp16; use --backend torch"),
        ({"network": "net.py:Net", "backend": "onnxruntime"}, "not ONNX Runtime; leave --backend"),
        ({"model": InMemory(), "backend": "onnxruntime"}, "not ONNX Runtime; leave --backend"),
        ({"model": Path("CNN.onnx"), "device": "cuda:1"}, "is an ONNX file.* leave out --backend"),
        ({"model": Path("CNN.onnx"), "precision": "fp16"}, "is an ONNX file.* leave out --backend"),
        ({"model": Path("CNN.onnx"), "backend": "torch"}, "is an ONNX file.* leave out --backend"),
    ],
)
def test_what_onnx_runtime_cannot_do_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(options)


def test_both_give_the_plain_loops_rows_and_agree_to_1e_5(seed_rows: list[SeedRow]) -> None:
    probs = {}
    for backend in ("torch", "onnxruntime"):
        table = batchdigit.predict(
            SAMPLES, probs=True, device="cpu", backend=backend, preprocess="exact"
        )
        assert table["prediction"].tolist() == [seed.prediction for seed in seed_rows]
        probs[backend] = table[[f"prob_{digit}" for digit in range(10)]].to_numpy(np.float64)
        assert np.abs(probs[backend] - [seed.probs for seed in seed_rows]).max() < 1e-5
    assert np.abs(probs["torch"] - probs["onnxruntime"]).max() < 1e-5


@pytest.mark.parametrize("error", ["ImportError('no such luck')", "RuntimeError('no such luck')"])
def test_backend_that_cannot_be_loaded_is_one_line_or_done_without(
    program: Program, tmp_path: Path, error: str
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "onnxruntime.py").write_text(f"raise {error}")
    environment = os.environ | {"PYTHONPATH": os.fspath(tmp_path / "broken")}
    done = program("run", SAMPLES, "--backend", "onnxruntime", env=environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no such luck" in done.stderr
    assert "pip install onnxruntime" in done.stderr
    done = program("run", SAMPLES, "--device", "cpu", "-o", "out.csv", env=environment)
    assert done.returncode == 0
    assert "no such luck; PyTorch computes instead" in done.stderr
    assert "on cpu by torch" in done.stderr


def test_missing_torch_is_one_line_with_its_remedy(program: Program, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise ModuleNotFoundError(name='torch')")
    environment = os.environ | {"PYTHONPATH": os.fspath(tmp_path / "broken")}
    done = program("run", SAMPLES, "--precision", "fp16", env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot load PyTorch" in done.stderr
    assert "pip install torch" in done.stderr
    code = "import batchdigit; batchdigit.load_checkpoint"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "BatchdigitError: batchdigit.load_checkpoint needs PyTorch" in done.stderr


def test_large_batch_is_computed_in_parts_by_all_threads(tmp_path: Path) -> None:
    for number in range(7):
        shutil.copytree(SAMPLES, tmp_path / str(number))
    for backend in ("torch", "onnxruntime"):
        options = {"backend": backend, "device": "cpu", "preprocess": "exact"}
        whole = list(batchdigit.stream(tmp_path, batch_size=100_000, **options))
        assert [len(batch) for batch in whole] == [700]
        parts = list(batchdigit.stream(tmp_path, batch_size=100, **options))
        for name in ("indices", "labels", "ink"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(getattr(whole[0], name), joined, equal_nan=name == "ink")
        probs = np.concatenate([part.probs for part in parts])
        assert np.abs(whole[0].probs - probs).max() < 1e-6


def test_folder_without_a_usable_image_is_no_empty_batch(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    for backend in ("torch", "onnxruntime"):
        table = batchdigit.predict(tmp_path, backend=backend, device="cpu")
        assert table["error"].str.startswith("decode: ").all()
    save_grey(tmp_path / "good.png")
    table = batchdigit.predict(tmp_path, backend="onnxruntime", preprocess="exact", batch_size=1)
    assert table["prediction"].notna().tolist() == [False, True]
