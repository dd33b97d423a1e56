"""PyTorch: its threads, the measured batch size, and ``--precision auto``."""

import json
from pathlib import Path

import pytest
import torch

import batchdigit
from batchdigit import Job
from batchdigit.backends.torch_backend import TorchBackend
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from tests.support.samples import SAMPLES


def test_as_many_threads_compute_as_cores_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
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
    checkpoint = backend.load(read_model_file(PACKAGED_WEIGHTS), Job(["x"]))
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
        backend.load(read_model_file(PACKAGED_WEIGHTS), Job(["x"]))
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
