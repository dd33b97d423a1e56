"""What only a CUDA device can show; skipped where there is none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import batchdigit
from tests.support.oracle import SeedRow
from tests.support.samples import SAMPLES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_rows_are_those_of_the_plain_loop_on_the_cpu(
    seed_rows: list[SeedRow], batch_size: int, workers: int
) -> None:
    table = batchdigit.predict(SAMPLES, device="cuda", batch_size=batch_size, workers=workers)
    assert table["prediction"].tolist() == [seed.prediction for seed in seed_rows]
    assert table["confidence"].to_numpy() == pytest.approx(
        [max(seed.probs) for seed in seed_rows], abs=1e-4
    )


def test_running_out_of_memory_only_makes_the_run_slower(seed_rows: list[SeedRow]) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(60e6 / total)  # the model and some images
    try:
        table = batchdigit.predict([SAMPLES], device="cuda", batch_size=100_000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert table["prediction"].tolist() == [seed.prediction for seed in seed_rows]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_runs(seed_rows: list[SeedRow], precision: str) -> None:
    table = batchdigit.predict(SAMPLES, device="cuda", precision=precision)
    assert table["confidence"].to_numpy() == pytest.approx(
        [max(seed.probs) for seed in seed_rows], abs=0.02
    )


def test_model_saved_on_a_gpu_loads_on_the_cpu(tmp_path: Path) -> None:
    torch.save(batchdigit.CNN().cuda().state_dict(), tmp_path / "CNN.pt")
    assert len(batchdigit.predict(SAMPLES, tmp_path / "CNN.pt", device="cpu")) == 100


def test_fp32_is_not_rounded_to_tf32(seed_rows: list[SeedRow]) -> None:
    table = batchdigit.predict(SAMPLES, device="cuda", probs=True)
    for digit in range(10):
        assert table[f"prob_{digit}"].to_numpy() == pytest.approx(
            [seed.probs[digit] for seed in seed_rows], abs=1e-5
        )


def test_batch_size_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    accounts = []
    for _ in range(2):
        batchdigit.run(batchdigit.Job((SAMPLES,), tmp_path / "out.csv", device="cuda"))
        accounts.append(json.loads((tmp_path / "out.csv.run.json").read_text())["reader"])
    assert [account["batch_size_by"] for account in accounts] == ["measured", "cached"]
    assert 256 <= accounts[0]["batch_size"] == accounts[1]["batch_size"] <= 65_536


def test_precision_auto_says_how_many_labels_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out.csv"
    batchdigit.run(batchdigit.Job((SAMPLES,), out, device="cuda", precision="auto"))
    computed = json.loads((tmp_path / "out.csv.run.json").read_text())["computed"]
    few = computed["label_flips_in_1000"] <= 1
    assert computed["precision"] == ("fp16" if few else "fp32")


def test_time_of_copies_and_of_the_network_is_told_apart(tmp_path: Path) -> None:
    job = batchdigit.Job((SAMPLES,), tmp_path / "out.csv", device="cuda", batch_size=64)
    batchdigit.run(job)  # sets the GPU up
    summary = batchdigit.run(replace(job, fresh=True))
    assert summary.busy["transfer"] > 0
    assert summary.busy["network"] > 0
    assert summary.busy["transfer"] + summary.busy["network"] <= summary.seconds["total"]
