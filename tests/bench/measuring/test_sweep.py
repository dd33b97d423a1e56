from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Setting
from batchdigit.bench.measuring import sweep
from batchdigit.bench.measuring.sweep import settings_to_try
from batchdigit.errors import CheckpointError, UsageError
from tests.support import own_code


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, no GPU, no units for bfloat16."""
    monkeypatch.setattr(sweep, "available_cores", lambda: 4)
    monkeypatch.setattr(sweep, "may_have_gpu", lambda: False)
    monkeypatch.setattr(sweep, "has_bfloat16_units", lambda: False)


def test_each_engine_begins_with_auto_and_varies_one_thing_at_a_time() -> None:
    settings = settings_to_try(BenchJob())
    assert settings[0] == Setting("torch", "cpu", "fp32")
    for setting in settings:
        assert None in (setting.batch_size, setting.workers)
    assert {setting.workers for setting in settings} == {None, 0, 1, 2, 4}
    assert Counter(setting.backend for setting in settings) == {"torch": 7, "onnxruntime": 7}
    assert len(set(settings)) == len(settings)


def test_batch_sizes_and_workers_that_are_given_are_tried_in_every_combination() -> None:
    settings = settings_to_try(
        BenchJob(backends=("torch",), batch_sizes=(64, None), workers=(1, 2, None))
    )
    assert len(settings) == len(set(settings)) == 6


def test_only_what_a_run_can_do_is_tried() -> None:
    settings = settings_to_try(BenchJob(devices=("cpu", "cuda"), precisions=("fp32", "fp16")))
    engines = {setting.engine for setting in settings}
    assert engines == {
        "torch on cpu in fp32",
        "torch on cpu in fp16",
        "torch on cuda in fp32",
        "torch on cuda in fp16",
        "onnxruntime on cpu in fp32",
    }


def test_units_for_bfloat16_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "has_bfloat16_units", lambda: True)
    engines = {setting.engine for setting in settings_to_try(BenchJob())}
    assert "torch on cpu in bf16" in engines
    assert "onnxruntime on cpu in bf16" not in engines


def test_all_gpus_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_gpus", lambda: ["cuda:0", "cuda:1"])
    devices = {(one.device, one.precision) for one in settings_to_try(BenchJob())}
    assert devices == {
        ("cpu", "fp32"),
        *((f"cuda:{number}", name) for number in (0, 1) for name in ("fp32", "fp16")),
    }


def test_onnx_file_is_tried_by_onnx_runtime_alone(tmp_path: Path) -> None:
    import batchdigit

    model = tmp_path / "CNN.onnx"
    batchdigit.convert_model(BenchJob().model, model)
    assert {one.backend for one in settings_to_try(BenchJob(model=model))} == {"onnxruntime"}
    with pytest.raises(UsageError, match=r"torch no \.onnx files"):
        settings_to_try(BenchJob(model=model, backends=("torch",)))


def test_nothing_to_try_is_an_error() -> None:
    with pytest.raises(UsageError, match="onnxruntime computes only on cpu"):
        settings_to_try(BenchJob(backends=("onnxruntime",), devices=("cuda",)))


def test_onnx_file_that_a_model_toml_names_is_tried_by_onnx_runtime_alone(tmp_path: Path) -> None:
    import batchdigit

    batchdigit.convert_model(BenchJob().model, tmp_path / "CNN.onnx")
    (tmp_path / "model.toml").write_text('weights = "CNN.onnx"')
    settings = settings_to_try(BenchJob(model=tmp_path / "model.toml"))
    assert {one.backend for one in settings} == {"onnxruntime"}


def test_network_of_the_users_own_is_tried_by_pytorch_alone(tmp_path: Path) -> None:
    own_code.script(tmp_path)
    job = BenchJob(model=tmp_path / "net.pt", network=f"{tmp_path / 'net.py'}:Net")
    assert {one.backend for one in settings_to_try(job)} == {"torch"}
    with pytest.raises(UsageError, match="onnxruntime computes .* no network of your own"):
        settings_to_try(replace(job, backends=("onnxruntime",)))


def test_model_that_is_missing_is_said_before_anything_is_tried(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        settings_to_try(BenchJob(model=tmp_path / "none.pt"))
