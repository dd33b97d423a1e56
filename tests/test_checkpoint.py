import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from batchdigit import CNN, CheckpointError
from batchdigit.checkpoint import load_checkpoint
from batchdigit.records import PACKAGED_WEIGHTS
from tests import oracle

GOOD = CNN().state_dict()


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "weights_only" not in message
    assert caught.value.remedy
    return message


def test_layers_are_those_of_the_tutorial() -> None:
    theirs = oracle.CNN().state_dict()
    assert list(GOOD) == list(theirs)
    assert [tensor.shape for tensor in GOOD.values()] == [
        tensor.shape for tensor in theirs.values()
    ]


def test_tutorials_state_dict_loads_unchanged(tmp_path: Path) -> None:
    theirs = oracle.CNN()
    theirs.eval()
    path = saved(tmp_path / "CNN.pt", theirs.state_dict())
    images = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(path).model(images), theirs(images))


def test_packaged_weights_are_a_plain_state_dict() -> None:
    state = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    assert list(state) == list(GOOD)
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}
    assert load_checkpoint(PACKAGED_WEIGHTS).classes == 10


def test_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    assert load_checkpoint(path).sha256 == printed.stdout.split()[0]


def test_model_is_in_eval_mode(tmp_path: Path) -> None:
    assert not load_checkpoint(saved(tmp_path / "CNN.pt", GOOD)).model.training


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "CNN.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04truncated", b"\x80\x02"])
def test_what_is_no_model_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "CNN.pt").write_bytes(content)
    refusal(tmp_path / "CNN.pt")


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    path.write_bytes(path.read_bytes()[:100_000])
    assert "not a readable PyTorch file" in refusal(path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3), {1: torch.zeros(1)}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    assert "not a state dict" in refusal(saved(tmp_path / "CNN.pt", content))


def test_missing_and_unexpected_keys_are_named(tmp_path: Path) -> None:
    state = dict(GOOD)
    state["head.weight"] = state.pop("fc.4.weight")
    message = refusal(saved(tmp_path / "CNN.pt", state))
    assert "missing fc.4.weight" in message
    assert "unexpected head.weight" in message


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    state = GOOD | {"fc.0.weight": torch.zeros(1024, 100)}
    assert "(1024, 100) where (1024, 2048)" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = GOOD | {"fc.4.bias": torch.full((10,), value)}
    assert "not finite in fc.4.bias" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(10, device="meta"),
        torch.zeros(10).to_sparse(),
        torch.zeros(10, dtype=torch.complex64),
        torch.zeros(10, dtype=torch.int8),
        torch.zeros(10, dtype=torch.bool),
    ],
    ids=["meta", "sparse", "complex64", "int8", "bool"],
)
def test_tensors_that_hold_no_weights_are_refused(tmp_path: Path, odd: torch.Tensor) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD | {"fc.4.bias": odd})
    message = refusal(path)
    assert odd.is_sparse or "fc.4.bias is of a kind" in message


def test_negative_variance_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD | {"layer1.1.running_var": torch.full((16,), -1.0)})
    assert "negative variance" in refusal(path)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "CNN.pt"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert "regular file" in refusal(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_load(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in GOOD.items()
    }
    loaded = load_checkpoint(saved(tmp_path / "CNN.pt", state)).model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


ATTACK = """
import os, pickle, sys
class Attack:
    def __reduce__(self):
        return os.mkdir, (sys.argv[2],)
with open(sys.argv[1], "wb") as file:
    pickle.dump({"layer1.0.weight": Attack()}, file)
"""


@pytest.mark.parametrize("forced", ["0", "1"])
def test_code_in_a_model_file_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: str
) -> None:
    path, canary = tmp_path / "CNN.pt", tmp_path / "canary"
    subprocess.run([sys.executable, "-c", ATTACK, path, canary], check=True)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    refusal(path)
    assert not canary.exists()
    # The control: the file does attack whoever loads it carelessly.
    careless = f"import pickle; pickle.load(open({os.fspath(path)!r}, 'rb'))"
    subprocess.run([sys.executable, "-c", careless], check=True)
    assert canary.exists()


def test_whole_pickled_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path / "CNN.pt", oracle.CNN()))
    assert "model.state_dict()" in message
