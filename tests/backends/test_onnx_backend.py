"""ONNX Runtime: which model files it accepts, and what it computes without PyTorch."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import batchdigit
from batchdigit.backends.onnx_backend import OnnxBackend
from batchdigit.job import PACKAGED_WEIGHTS
from tests.support.oracle import SeedRow
from tests.support.samples import SAMPLES, Program


@pytest.mark.parametrize("name", ["CNN.pt", "CNN-whole.pt", "CNN.safetensors", "CNN.onnx"])
def test_onnx_runtime_takes_every_model_file(
    tmp_path: Path, tutorial_files: Path, program: Program, name: str
) -> None:
    source = next(path for path in tutorial_files.iterdir() if path.suffix == ".pt")
    model = tmp_path / name
    if model.suffix == ".pt":
        state = batchdigit.load_checkpoint(source)
        torch.save(state.model if "whole" in name else state.model.state_dict(), model)
    else:
        batchdigit.convert_model(source, model)
    done = program("run", SAMPLES, "-m", model, "--backend", "onnxruntime", "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    assert "on cpu by onnxruntime" in done.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        found = [row["prediction"] for row in csv.DictReader(file)]
    expected = batchdigit.predict(SAMPLES, source, backend="torch", device="cpu")
    assert found == [str(digit) for digit in expected["prediction"]]


def test_run_by_onnx_runtime_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None  # an import would fail\n"
        "from batchdigit.cli.app import main\n"
        "main()"
    )
    subprocess.run(
        [sys.executable, "-c", code, "run", SAMPLES, "--out", tmp_path / "out.csv", "--quiet",
         "--device", "cpu"],
        check=True,
    )  # fmt: skip
    account = json.loads((tmp_path / "out.csv.run.json").read_text())
    assert account["computed"]["backend"] == account["backend"] == "onnxruntime"
    assert "onnxruntime" in account["versions"]
    assert "torch" not in account["versions"]


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What ``batchdigit model convert`` writes, and files that are wrong in one way each."""
    import onnx

    folder = tmp_path_factory.mktemp("onnx")
    batchdigit.convert_model(PACKAGED_WEIGHTS, folder / "CNN.onnx")
    good = (folder / "CNN.onnx").read_bytes()

    def changed(change: Callable[[Any], object]) -> bytes:
        model = onnx.ModelProto.FromString(good)
        change(model)
        return bytes(model.SerializeToString())

    def softmax(model: Any) -> None:
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(onnx.helper.make_node("Softmax", ["before"], ["logits"]))

    def not_a_number(model: Any) -> None:
        weights = model.graph.initializer[3]
        numbers = onnx.numpy_helper.to_array(weights).copy()
        numbers[0] = np.nan
        weights.raw_data = numbers.tobytes()

    contents = {
        "same": changed(lambda _model: None),
        "metadata": changed(lambda model: model.metadata_props.add(key="a", value="b")),
        "softmax": changed(softmax),
        "NaN": changed(not_a_number),
        "huge": changed(lambda model: model.graph.initializer[3].dims.append(2**63 - 1)),
        "negative": changed(lambda model: model.graph.initializer[3].dims.append(-1)),
        "unknown field": good + b"\x98\x06\x01",
        "cut": good[:-1000],
        "cut early": good[: 1 << 20],
        "endless number": good[:4] + b"\xff" * 100,
        "torch's": b"\x08\x0a\x12\x07pytorch",
        "nothing": b"nothing of that kind",
        "empty": b"",
    }
    for name, content in contents.items():
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / "model.bin").write_bytes(good)
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    "name",
    [
        *("NaN", "cut", "cut early", "huge", "negative", "endless number", "torch's"),
        *("nothing", "empty"),
    ],
)
def test_damaged_onnx_file_is_refused(
    onnx_files: dict[str, Path], tmp_path: Path, program: Program, name: str
) -> None:
    model = onnx_files[name]
    done = program("run", SAMPLES, "--model", model, "--out", "out.csv", "--device", "cpu")
    assert done.returncode == 65, done.stderr
    assert done.stderr.count("\n") == 1
    assert "not finite" in done.stderr or name != "NaN"
    assert not (tmp_path / "out.csv").exists()
    # That the weights of another program's graph are numbers is known once it has run.
    assert batchdigit.inspect_model(model).usable == (name == "NaN")


# Known by their content, not by their names.
@pytest.mark.parametrize("name", ["CNN", "same", "model", "softmax", "metadata", "unknown field"])
def test_onnx_file_is_taken_and_gives_the_plain_loops_rows(
    onnx_files: dict[str, Path],
    tmp_path: Path,
    program: Program,
    seed_rows: list[SeedRow],
    name: str,
) -> None:
    model = onnx_files[name]
    done = program("run", SAMPLES, "--model", model, "--preprocess", "exact", "--out", "out.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"] for row in rows] == [str(seed.prediction) for seed in seed_rows]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(
        [max(seed.probs) for seed in seed_rows], abs=1e-4
    )
    inspection = batchdigit.inspect_model(model)
    assert inspection.usable
    assert inspection.tensors["fc.4.weight"].shape == (10, 128)


def test_weights_that_are_called_onnx_are_weights(tmp_path: Path, program: Program) -> None:
    shutil.copy(PACKAGED_WEIGHTS, tmp_path / "CNN.onnx")
    assert program("run", SAMPLES, "--model", "CNN.onnx", "--out", "out.csv").returncode == 0


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_onnx_runtimes_rows_do_not_depend_on_batches_and_workers(
    batch_size: int, workers: int
) -> None:
    table = batchdigit.predict(
        SAMPLES, backend="onnxruntime", device="cpu", batch_size=batch_size, workers=workers
    )
    expected = batchdigit.predict(SAMPLES, backend="onnxruntime", device="cpu")
    assert table["prediction"].tolist() == expected["prediction"].tolist()
    assert np.abs(table["confidence"] - expected["confidence"]).max() < 1e-6


def test_onnx_runtime_runs_where_numpy_has_no_vector_instructions(program: Program) -> None:
    environment = os.environ | {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F"
        " AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL SSSE3 SSE41 POPCNT SSE42 AVX F16C"
    }
    done = program("run", SAMPLES, "--backend", "onnxruntime", "-o", "out.csv", env=environment)
    assert done.returncode == 0, done.stderr


def test_as_many_threads_compute_as_cores_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchdigit.backends.onnx_backend.available_cores", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert OnnxBackend().threads == 3
    for wanted, threads in (("2", 2), ("0", 1), ("99", 3), ("nonsense", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
        assert OnnxBackend().threads == threads
