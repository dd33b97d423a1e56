"""The numbers in a model file are read without PyTorch: exactly these, or none."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from batchdigit import CNN, UsageError, inspect_model, load_checkpoint
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.declaration import POLARITIES, RANGES, Declaration
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.checkpoint import tensors_of
from batchdigit.models.cnn import fold_batchnorm
from batchdigit.models.digits import packaged_digits
from batchdigit.models.spec import MNIST
from batchdigit.models.weights import Weights, all_finite, as_single, fold_input, read_weights
from tests.support.modelfiles import refusal, same_weights, saved, wanted_by
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
    """The state dicts of torch before 0.4.1 have no counters."""
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
def test_counter_that_holds_no_count_is_refused(tmp_path: Path, count: float) -> None:
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


def read(path: Path) -> Weights:
    return read_weights(read_model_file(path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_are_those_that_torch_reads(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in GOOD.items()}
    weights = read(saved(tmp_path / "CNN.pt", state))
    assert list(weights.stored) == list(state)
    assert set(weights.dtypes.values()) == {str(dtype).removeprefix("torch.")}
    for name, tensor in torch.load(tmp_path / "CNN.pt", weights_only=True).items():
        bits = tensor.view(torch.uint16) if dtype == torch.bfloat16 else tensor
        assert np.array_equal(weights.stored[name], bits.numpy())
        if not name.endswith("num_batches_tracked"):
            assert weights.single[name].dtype == np.float32
            assert np.array_equal(weights.single[name], tensor.float().numpy())
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert weights.single.keys() == state.keys() - counters


def test_tensors_of_any_layout_are_read_as_torch_shows_them(tmp_path: Path) -> None:
    wide = torch.rand(2, 2048, 1024)
    state = GOOD | {
        "fc.0.weight": wide[1].T,
        "fc.2.bias": wide[0, 0, ::8],
        "fc.4.bias": wide[0, :10, 3],
    }
    weights = read(saved(tmp_path / "CNN.pt", state))
    for name in ("fc.0.weight", "fc.2.bias", "fc.4.bias"):
        assert np.array_equal(weights.stored[name], state[name].numpy())


def test_numbers_of_a_big_endian_machine_are_byte_swapped(tmp_path: Path) -> None:
    state = {name: GOOD[name] for name in GOOD if not name.endswith("num_batches_tracked")}
    little = saved(tmp_path / "little.pt", state)
    with zipfile.ZipFile(little) as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/byteorder"):
                content = b"big"
            elif "/data/" in name:
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            new.writestr(name, content)
    expected, found = read(little), read(tmp_path / "big.pt")
    for name, array in expected.single.items():
        assert np.array_equal(found.single[name], array)


@pytest.mark.parametrize("classes", [1, 10, 36])
def test_weights_say_what_their_network_takes_and_gives(tmp_path: Path, classes: int) -> None:
    weights = read(saved(tmp_path / "CNN.pt", CNN(classes).state_dict()))
    assert weights.spec == MNIST.with_classes(classes)
    assert weights.classes == classes


def test_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    weights = read(saved(tmp_path / "CNN.pt", GOOD))
    assert not any(array.flags.writeable for array in weights.stored.values())
    assert np.shares_memory(weights.single["fc.0.weight"], weights.stored["fc.0.weight"])


def test_number_too_large_for_single_precision_becomes_infinite() -> None:
    assert as_single(np.array([1e300, 1.5]), "float64").tolist() == [np.inf, 1.5]


@pytest.mark.parametrize(
    ("numbers", "finite"),
    [
        ([3e38] * 100, True),  # their sum is not
        ([3e38, -3e38], True),
        ([], True),
        ([0, np.nan], False),
        ([np.inf, -np.inf], False),
        ([-np.inf], False),
    ],
)
def test_finite_means_every_number(numbers: list[float], finite: bool) -> None:
    array = np.array(numbers, np.float32)
    assert all_finite(array) == finite == bool(np.isfinite(array).all())


def test_weights_are_read_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None  # an import would fail\n"
        "from pathlib import Path\n"
        "from batchdigit.modelfiles.file import read_model_file\n"
        "from batchdigit.models.weights import read_weights\n"
        "print(read_weights(read_model_file(Path(sys.argv[1]))).classes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, PACKAGED_WEIGHTS], capture_output=True, text=True, check=True
    )
    assert done.stdout == "10\n"


@pytest.mark.parametrize(
    ("largest", "where"),
    [
        ({"layer1.0.weight": 3e38, "layer1.1.running_var": 0.0}, "layer1.0.weight"),
        ({"layer2.0.bias": 3e38, "layer2.1.running_mean": -3e38}, "layer2.0.bias"),
        # Finite in float64, but not on the way there in float32.
        (
            {"layer3.0.weight": 1e-9, "layer3.1.weight": 3e38, "layer3.1.running_var": 0.0},
            "layer3.0",
        ),
    ],
)
def test_weights_that_overflow_when_batchnorm_is_folded_are_refused(
    tmp_path: Path, largest: dict[str, float], where: str
) -> None:
    state = {name: tensor.clone() for name, tensor in GOOD.items()}
    for name, value in largest.items():
        state[name].fill_(value)
    folded = fold_torch(state)
    assert not all(bool(tensor.isfinite().all()) for tensor in folded), "the attack does not work"
    assert f"not finite in {where}" in refusal(saved(tmp_path / "CNN.pt", state))


def fold_torch(state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The parameters of PyTorch's own folding."""
    model = CNN()
    model.load_state_dict(state)
    return list(fold_batchnorm(model.eval()).parameters())


def test_tensor_whose_numbers_are_to_be_negated_is_refused(tmp_path: Path) -> None:
    """Its bytes hold the numbers with the other sign."""
    state = GOOD | {"fc.4.bias": torch._neg_view(GOOD["fc.4.bias"])}
    path = saved(tmp_path / "CNN.pt", state)
    again = torch.load(path, weights_only=True)["fc.4.bias"]
    assert torch.equal(again, -GOOD["fc.4.bias"]), "torch does not save it as the attack needs"
    assert "declares an impossible tensor (with metadata)" in refusal(path)


def test_counters_of_any_precision_are_counts(tmp_path: Path) -> None:
    name = "layer1.1.num_batches_tracked"
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int32):
        state = GOOD | {name: torch.tensor(7).to(dtype)}
        checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", state))
        assert checkpoint.model.state_dict()[name] == 7


def test_safetensors_with_a_name_twice_are_refused(tmp_path: Path) -> None:
    """One reader takes the first of two equal keys, and another the last."""
    save_file(GOOD, tmp_path / "CNN.safetensors")
    data = (tmp_path / "CNN.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip()
    entry = json.dumps({"fc.4.bias": json.loads(header)["fc.4.weight"]}).encode()
    doubled = header[:-1] + b"," + entry[1:]
    path = tmp_path / "doubled.safetensors"
    path.write_bytes(len(doubled).to_bytes(8, "little") + doubled + data[8 + length :])
    assert json.loads(doubled)["fc.4.bias"] != json.loads(header)["fc.4.bias"]
    assert "is a damaged safetensors file" in refusal(path)


class Counting(nn.Module):
    """Whole numbers, truths and a mean beside its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.register_buffer("seen", torch.tensor(-7, dtype=torch.int32))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("mean", torch.tensor(0.1307, dtype=torch.float64))


COUNTING = Counting().state_dict()
WANTED = wanted_by(Counting())


def own(path: Path) -> Weights:
    return read_weights(read_model_file(path), wanted=WANTED)


@pytest.mark.parametrize("form", ["new", "old", "safetensors"])
def test_whole_numbers_of_an_own_network_are_read_as_they_are(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"net.{form}"
    if form == "safetensors":
        save_file(COUNTING, path, {"format": "pt"})
    else:
        saved(path, COUNTING, _use_new_zipfile_serialization=form == "new")
    weights = own(path)
    assert weights.stored.keys() == COUNTING.keys()
    for name, tensor in COUNTING.items():
        assert np.array_equal(weights.stored[name], tensor.numpy())
        assert weights.dtypes[name] == str(tensor.dtype).removeprefix("torch.")
    again = Counting()
    again.load_state_dict(tensors_of(weights))
    assert same_weights(again, COUNTING)


def test_counters_of_an_own_network_may_be_missing(tmp_path: Path) -> None:
    state = {name: COUNTING[name] for name in COUNTING if not name.endswith("tracked")}
    assert own(saved(tmp_path / "net.pt", state)).stored.keys() == state.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_own_network_of_another_precision_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path / "net.pt", COUNTING | {"fc.weight": COUNTING["fc.weight"].to(dtype)})
    found = tensors_of(own(path))["fc.weight"]
    assert torch.equal(found.to(dtype), COUNTING["fc.weight"].to(dtype))


@pytest.mark.parametrize("name", ["fc.bias", "norm.running_var", "mean"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_own_network_with_values_that_are_not_finite_is_refused(
    tmp_path: Path, name: str, value: float
) -> None:
    path = saved(tmp_path / "net.pt", COUNTING | {name: torch.full_like(COUNTING[name], value)})
    assert f"not finite in {name}" in refusal(path, wanted=WANTED)


def test_own_network_takes_no_complex_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", COUNTING | {"fc.bias": torch.zeros(3, dtype=torch.complex64)})
    assert "complex" in refusal(path, wanted=WANTED).lower()


def test_cnn_is_declared_to_take_what_it_can() -> None:
    weights = read(PACKAGED_WEIGHTS)
    one = weights.declared(Declaration(mean=(0.1307,), std=(0.3081,), expects="dark-on-light"))
    assert (one.spec.mean, one.spec.expects, one.spec.scores) == (
        (0.1307,),
        "dark-on-light",
        "logits",
    )
    for other in (Declaration(size=(32, 32)), Declaration(channels=3), Declaration(layout="nhwc")):
        with pytest.raises(UsageError, match="does not fit the packaged kind of network"):
            weights.declared(other)


@pytest.mark.parametrize("extent", RANGES)
@pytest.mark.parametrize("expects", POLARITIES)
def test_declaration_goes_into_the_first_convolution(extent: str, expects: str) -> None:
    declared = Declaration(range=extent, mean=(0.1307,), std=(0.3081,), expects=expects)
    weights = read(PACKAGED_WEIGHTS).declared(declared)
    folded = fold_input(weights)
    assert folded.spec == MNIST
    digits = torch.from_numpy(packaged_digits()[:20]).double()
    scores = []
    for one in (weights, folded):
        model = CNN().eval()
        model.load_state_dict(tensors_of(one))
        with torch.inference_mode():
            scores.append(model.double()(one.spec.prepare(digits.clone())))
    largest = float(scores[0].abs().max())
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-5 * largest)
