"""The numbers that a model file holds, without PyTorch: the very ones, or none."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from batchdigit import CNN, inspect_model, load_checkpoint
from tests.support.modelfiles import refusal, same_weights, saved
from tests.support.samples import Program

GOOD = CNN().state_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("counters_too", [True, False])
def test_weights_of_another_precision_load(
    tmp_path: Path, dtype: torch.dtype, counters_too: bool
) -> None:
    state = {
        name: tensor.to(dtype) if counters_too or tensor.is_floating_point() else tensor
        for name, tensor in GOOD.items()
    }
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", state))
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}
    assert {checkpoint.state[name].dtype for name in state} >= {dtype}
    expected = {name: tensor.to(GOOD[name].dtype) for name, tensor in state.items()}
    assert same_weights(checkpoint.model, expected)


def test_state_dict_without_counters_loads(tmp_path: Path) -> None:
    """Those of torch before 0.4.1 have none."""
    state = {name: GOOD[name] for name in GOOD if not name.endswith("num_batches_tracked")}
    assert load_checkpoint(saved(tmp_path / "CNN.pt", state)).classes == 10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = GOOD | {"fc.4.bias": torch.full((10,), value)}
    assert "not finite in fc.4.bias" in refusal(saved(tmp_path / "CNN.pt", state))


def test_double_that_is_no_single_precision_number_is_refused(tmp_path: Path) -> None:
    state = GOOD | {"fc.4.bias": torch.full((10,), 1e300, dtype=torch.float64)}
    assert "not finite in fc.4.bias" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize("count", [float("nan"), 1e300, -1.0])
def test_count_that_is_none_is_refused(tmp_path: Path, count: float) -> None:
    path = tmp_path / "CNN.pt"
    torch.save({**GOOD, "layer1.1.num_batches_tracked": torch.tensor(count)}, path)
    assert "holds no count in layer1.1.num_batches_tracked" in refusal(path)
    assert not inspect_model(path).usable


def test_stride_of_a_single_step_is_any_number(tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    weight = GOOD["layer1.0.weight"].clone()
    odd = weight.as_strided((16, 1, 3, 3), (9, 2**62, 3, 1))
    torch.save({**GOOD, "layer1.0.weight": odd}, path)
    assert torch.equal(load_checkpoint(path).state["layer1.0.weight"], weight)
    assert inspect_model(path).usable


def test_tensors_of_impossible_sizes_beside_the_weights_are_no_surprise(tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    torch.save({**GOOD, "extra": torch.zeros(1).as_strided((1,), (2**62,))}, path)
    assert "unexpected extra" in inspect_model(path).problem
    header = {"extra": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}
    text = json.dumps(header).encode()
    path = tmp_path / "CNN.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert not inspect_model(path).usable


def test_negative_variance_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD | {"layer1.1.running_var": torch.full((16,), -1.0)})
    assert "negative variance" in refusal(path)


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(10, device="meta"),
        torch.zeros(10).to_sparse(),
        torch.zeros(10, dtype=torch.complex64),
        torch.zeros(10, dtype=torch.float8_e4m3fn),
        torch.zeros(1).expand(10),
    ],
    ids=["meta", "sparse", "complex64", "float8", "expanded"],
)
def test_tensors_that_are_not_plain_are_refused(tmp_path: Path, odd: torch.Tensor) -> None:
    refusal(saved(tmp_path / "CNN.pt", GOOD | {"fc.4.bias": odd}))


def test_safetensors_that_are_not_installed_are_an_error_with_a_remedy(
    tmp_path: Path, program: Program, digits: Path
) -> None:
    path = tmp_path / "CNN.safetensors"
    save_file(GOOD, path)
    (tmp_path / "safetensors.py").write_text("raise ImportError")
    done = program("run", digits, "--model", path, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "pip install safetensors" in done.stderr
    assert "Traceback" not in done.stderr
