"""Which backend a job gets; both give the same rows."""

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
from batchdigit import Job, UsageError
from batchdigit.backends import choice
from batchdigit.backends.choice import choose_backend
from batchdigit.backends.onnx_backend import OnnxBackend
from batchdigit.backends.torch_backend import TorchBackend
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from tests.support.oracle import SeedRow
from tests.support.samples import SAMPLES, Program, save_grey


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
    for backend in ("torch", "onnxruntime"):
        if (backend, model.suffix) == ("torch", ".onnx"):
            continue
        done = program("run", SAMPLES, "-m", model, "--backend", backend, "-o", f"{backend}.csv")
        assert done.returncode == 0, done.stderr
        assert f"on cpu by {backend}" in done.stderr
    with (tmp_path / "onnxruntime.csv").open(newline="") as file:
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

    def other_classes(model: Any) -> None:
        model.metadata_props[1].value = "9"

    contents = {
        "same": changed(lambda _model: None),
        "no metadata": changed(lambda model: model.ClearField("metadata_props")),
        "softmax": changed(softmax),
        "NaN": changed(not_a_number),
        "other classes": changed(other_classes),
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
        *("no metadata", "softmax", "NaN", "other classes", "unknown field", "cut", "cut early"),
        *("huge", "negative", "endless number", "torch's", "nothing", "empty"),
    ],
)
def test_onnx_file_that_is_not_as_written_is_refused(
    onnx_files: dict[str, Path], tmp_path: Path, program: Program, name: str
) -> None:
    model = onnx_files[name]
    done = program("run", SAMPLES, "--model", model, "--out", "out.csv", "--device", "cpu")
    assert done.returncode == 65, done.stderr
    assert done.stderr.count("\n") == 1
    assert "not finite" in done.stderr if name == "NaN" else "model convert" in done.stderr
    assert not (tmp_path / "out.csv").exists()
    assert not batchdigit.inspect_model(model).usable


@pytest.mark.parametrize("name", ["CNN", "same", "model"])  # known by its content, not its name
def test_onnx_file_that_was_converted_is_taken(
    onnx_files: dict[str, Path], program: Program, name: str
) -> None:
    model = onnx_files[name]
    done = program("run", SAMPLES, "--model", model, "--out", "out.csv")
    assert done.returncode == 0, done.stderr
    inspection = batchdigit.inspect_model(model)
    assert inspection.usable
    assert (inspection.kind, inspection.classes, inspection.finite) == ("ONNX graph", 10, True)
    assert inspection.metadata["source_sha256"] == batchdigit.inspect_model(PACKAGED_WEIGHTS).sha256
    assert inspection.tensors["fc.4.weight"].shape == (10, 128)


def test_weights_that_are_called_onnx_are_weights(tmp_path: Path, program: Program) -> None:
    shutil.copy(PACKAGED_WEIGHTS, tmp_path / "CNN.onnx")
    assert program("run", SAMPLES, "--model", "CNN.onnx", "--out", "out.csv").returncode == 0


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


def test_folder_without_a_usable_image_is_no_empty_batch(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    for backend in ("torch", "onnxruntime"):
        table = batchdigit.predict(tmp_path, backend=backend, device="cpu")
        assert table["error"].str.startswith("decode: ").all()
    save_grey(tmp_path / "good.png")
    table = batchdigit.predict(tmp_path, backend="onnxruntime", preprocess="exact", batch_size=1)
    assert table["prediction"].notna().tolist() == [False, True]


def test_onnx_runtime_runs_where_numpy_has_no_vector_instructions(program: Program) -> None:
    environment = os.environ | {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F"
        " AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL SSSE3 SSE41 POPCNT SSE42 AVX F16C"
    }
    done = program("run", SAMPLES, "--backend", "onnxruntime", "-o", "out.csv", env=environment)
    assert done.returncode == 0, done.stderr


def test_backends_use_the_cores_that_they_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchdigit.backends.onnx_backend.available_cores", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert OnnxBackend().threads == 3
    for wanted, threads in (("2", 2), ("0", 1), ("99", 3), ("nonsense", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
        assert OnnxBackend().threads == threads
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr("batchdigit.backends.torch_backend.available_cores", lambda: 1)
        assert TorchBackend("cpu", "fp32").threads == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_rate_of_a_batch_size_is_none_where_it_takes_too_much_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CPU stands in for the CUDA device on which this is measured."""
    needed = 10
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: needed)
    backend = TorchBackend("cpu", "fp32")
    checkpoint = backend.load(read_model_file(PACKAGED_WEIGHTS), None)
    assert (backend._rate(checkpoint, 16) or 0) > 10
    needed = 51
    assert backend._rate(checkpoint, 16) is None
    needed = 10
    monkeypatch.setattr(Predictor, "largest_batch", 8, raising=False)
    monkeypatch.setattr(Predictor, "__init__", lambda *_args, **_options: None)
    monkeypatch.setattr(Predictor, "predict", lambda _self, _batches: [])
    assert backend._rate(checkpoint, 16) is None  # as after running out of memory


class TestPrecisionAuto:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def backend(self, monkeypatch: pytest.MonkeyPatch, bf16: bool) -> TorchBackend:
        monkeypatch.setattr("batchdigit.backends.torch_backend.has_bfloat16_units", lambda: bf16)
        backend = TorchBackend("cpu", "auto")
        backend.load(read_model_file(PACKAGED_WEIGHTS), None)
        return backend

    def test_is_fp32_where_there_are_no_units_for_less(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = self.backend(monkeypatch, bf16=False)
        assert backend.precision == "fp32"
        assert "label_flips_in_1000" not in backend.details()

    def test_says_how_many_labels_differ(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = self.backend(monkeypatch, bf16=True)
        assert backend.precision == "bf16"
        assert backend.details()["label_flips_in_1000"] <= 1

    def test_is_fp32_where_too_many_labels_differ(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TorchBackend, "_label_flips", lambda *_: 2)
        backend = self.backend(monkeypatch, bf16=True)
        assert backend.precision == "fp32"
        assert backend.details()["label_flips_in_1000"] == 2

    def test_stands_in_the_account(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("choice", "torch_backend"):
            monkeypatch.setattr(f"batchdigit.backends.{module}.has_bfloat16_units", lambda: True)
        out = tmp_path / "out.csv"
        batchdigit.run(Job((SAMPLES,), out, precision="auto", device="cpu"))
        computed = json.loads((tmp_path / "out.csv.run.json").read_text())["computed"]
        assert computed["precision"] == "bf16"
        assert computed["label_flips_in_1000"] <= 1
