import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from batchdigit import CNN, CheckpointError, inspect_model
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint
from tests.support import oracle
from tests.support.modelfiles import run
from tests.support.samples import Program

GOOD = CNN().state_dict()
TUTORIAL = [
    f"{where}-{age}-{what}"
    for where in ("cpu", "cuda")
    for age in ("new", "old")
    for what in ("state", "whole", "parallel-state", "parallel-whole")
]


def saved(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def refusal(path: Path, class_name: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, class_name)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "weights_only" not in message
    assert caught.value.remedy
    return message


def same_weights(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    loaded = model.state_dict()
    return loaded.keys() == state.keys() and all(
        torch.equal(loaded[name], tensor) for name, tensor in state.items()
    )


def test_layers_are_those_of_the_tutorial() -> None:
    theirs = oracle.CNN().state_dict()
    assert list(GOOD) == list(theirs)
    assert [tensor.shape for tensor in GOOD.values()] == [
        tensor.shape for tensor in theirs.values()
    ]


# What is read


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


@pytest.mark.parametrize("name", TUTORIAL)
def test_file_of_the_tutorial_gives_the_very_weights(tutorial_files: Path, name: str) -> None:
    checkpoint = load_checkpoint(tutorial_files / f"{name}.pt")
    assert same_weights(checkpoint.model, torch.load(PACKAGED_WEIGHTS, weights_only=True))
    assert type(checkpoint.model) is CNN
    whole = name.endswith("whole")
    assert checkpoint.kind == ("whole model __main__.CNN" if whole else "state dict")
    assert ("old" in checkpoint.format) == ("old" in name)


def test_old_file_of_the_tutorial_holds_its_source_code(tutorial_files: Path) -> None:
    """So that the test above is about the case that torch's own safe loader does not take."""
    path = tutorial_files / "cpu-old-whole.pt"
    assert b"def forward" in path.read_bytes()
    with pytest.raises(Exception, match="persistent_load|weights_only"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("name", ["cpu-new-state", "cpu-new-whole", "cuda-old-whole"])
def test_file_of_the_tutorial_gives_the_same_report(
    tutorial_files: Path, program: Program, tmp_path: Path, digits: Path, name: str
) -> None:
    ours = program("run", digits, "--out", "ours.csv", "--probs")
    theirs = program(
        *("run", digits, "--out", "theirs.csv", "--probs"),
        *("--model", tutorial_files / f"{name}.pt"),
    )
    assert (ours.returncode, theirs.returncode) == (0, 0), theirs.stderr
    assert (tmp_path / "theirs.csv").read_bytes() == (tmp_path / "ours.csv").read_bytes()


FROM_A_MODULE = """
import sys, torch
from networks.digits import {name} as Network
model = Network()
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
torch.save(model, "whole.pt")
torch.save({{"model": model, "epoch": 3}}, "nested.pt")
torch.save(model, "old.pt", _use_new_zipfile_serialization=False)
"""


def save_from_a_module(folder: Path, name: str) -> None:
    (folder / "networks").mkdir()
    source = Path(oracle.__file__).read_text().replace("class CNN(", f"class {name}(")
    source = source.replace("super().__init__()", "super().__init__()\n        self.note = 'mine'")
    (folder / "networks" / "digits.py").write_text(source.split("@dataclass")[0])
    (folder / "save.py").write_text(FROM_A_MODULE.format(name=name))
    run(folder / "save.py", PACKAGED_WEIGHTS, folder=folder)
    (folder / "networks" / "digits.py").unlink()


def test_whole_model_of_a_module_that_is_not_here_loads(tmp_path: Path) -> None:
    save_from_a_module(tmp_path, "CNN")
    weights = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    for name in ("whole", "nested", "old"):
        checkpoint = load_checkpoint(tmp_path / f"{name}.pt")
        assert same_weights(checkpoint.model, weights)
        assert "networks.digits.CNN" in checkpoint.kind
    assert not any(name.startswith("networks") for name in sys.modules)


def test_class_of_another_name_is_taken_once_it_is_named(tmp_path: Path) -> None:
    save_from_a_module(tmp_path, "DigitNet")
    for name in ("whole", "nested", "old"):
        message = refusal(tmp_path / f"{name}.pt")
        assert "networks.digits.DigitNet, not CNN" in message
        assert "--class-name networks.digits.DigitNet" in message
        for class_name in ("DigitNet", "networks.digits.DigitNet"):
            assert load_checkpoint(tmp_path / f"{name}.pt", class_name).classes == 10
        refusal(tmp_path / f"{name}.pt", "Net")
        refusal(tmp_path / f"{name}.pt", "other.DigitNet")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_weights_within_a_dictionary_are_found(tmp_path: Path, key: str) -> None:
    optimizer = torch.optim.Adam(oracle.CNN().parameters())
    content = {"epoch": 3, key: GOOD, "optimizer": optimizer.state_dict(), "loss": [0.1, None]}
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", content))
    assert same_weights(checkpoint.model, GOOD)
    assert checkpoint.kind == f"state dict under {key}"


def test_weights_two_dictionaries_deep_are_found(tmp_path: Path) -> None:
    content = {"model": {"name": "CNN"}, "net": {"state_dict": GOOD}}
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", content))
    assert checkpoint.kind == "state dict under net.state_dict"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in GOOD.items()}
    assert same_weights(load_checkpoint(saved(tmp_path / "CNN.pt", state)).model, GOOD)


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


def test_safetensors_load_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "CNN.safetensors"
    save_file(GOOD, path, {"format": "pt", "author": "me"})
    checkpoint = load_checkpoint(path)
    assert same_weights(checkpoint.model, GOOD)
    assert checkpoint.format == "safetensors"


@pytest.mark.parametrize("classes", [1, 2, 36, 1000])
def test_last_layer_gives_the_number_of_classes(tmp_path: Path, classes: int) -> None:
    state = CNN(classes).state_dict()
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", state))
    assert checkpoint.classes == classes
    assert same_weights(checkpoint.model, state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_pickle_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD, pickle_protocol=protocol)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_checkpoint(path).classes == 10


def test_archive_without_checksums_loads(tmp_path: Path) -> None:
    try:
        torch.serialization.set_crc32_options(False)
        path = saved(tmp_path / "CNN.pt", GOOD)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same_weights(load_checkpoint(path).model, GOOD)


def test_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    assert load_checkpoint(path).sha256 == printed.stdout.split()[0]


def test_model_is_in_eval_mode(tmp_path: Path) -> None:
    training = oracle.CNN()
    training.train()
    assert not load_checkpoint(saved(tmp_path / "CNN.pt", training)).model.training


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    before = torch.random.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_loading_leaves_torchs_allowlist_alone(tutorial_files: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    load_checkpoint(tutorial_files / "cpu-new-whole.pt")
    assert set(torch.serialization.get_safe_globals()) == before


# What is refused


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "CNN.pt")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "CNN.pt"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert ("folder" if kind == "folder" else "regular file") in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a list"),
        ({"epoch": 3, 1: 2}, "a dictionary of epoch, 1"),
        ({}, "an empty dictionary"),
        (torch.zeros(3), "a single tensor"),
        ({1: torch.zeros(1)}, "a dictionary of 1"),
        (None, "a NoneType"),
        ({"model": GOOD, "net": GOOD}, "several models, under model, net"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, said: str) -> None:
    assert said in refusal(saved(tmp_path / "CNN.pt", content))


def test_missing_and_unexpected_keys_are_named_with_the_nearest(tmp_path: Path) -> None:
    state = dict(GOOD)
    state["fc.5.weight"] = state.pop("fc.4.weight")
    message = refusal(saved(tmp_path / "CNN.pt", state))
    assert "missing fc.4.weight" in message
    assert "unexpected fc.5.weight" in message
    assert "nearest names fc.4.weight ~ fc.5.weight" in message


def test_names_are_not_guessed_by_order_and_shape(tmp_path: Path) -> None:
    state = {f"tensor{place}": tensor for place, tensor in enumerate(GOOD.values())}
    assert "missing layer1.0.weight" in refusal(saved(tmp_path / "CNN.pt", state))


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    state = GOOD | {"fc.0.weight": torch.zeros(1024, 100)}
    assert "(1024, 100) where (1024, 2048)" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize("classes", [0, 1001])
def test_impossible_numbers_of_classes_are_refused(tmp_path: Path, classes: int) -> None:
    state = GOOD | {"fc.4.weight": torch.zeros(classes, 128), "fc.4.bias": torch.zeros(classes)}
    assert f"has {classes} classes" in refusal(saved(tmp_path / "CNN.pt", state))


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


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64])
def test_tensors_that_hold_no_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD | {"fc.4.bias": torch.zeros(10, dtype=dtype)})
    assert "fc.4.bias is of " in refusal(path)


def altered(change: Any) -> oracle.CNN:
    model = oracle.CNN()
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.layer2.__setitem__(2, nn.LeakyReLU()), "LeakyReLU"),
        (lambda model: model.layer2.__setitem__(2, nn.Identity()), "Identity"),
        (lambda model: model.layer2.__setitem__(2, nn.MaxPool2d(1)), "layer2.2 is MaxPool2d"),
        (lambda model: setattr(model.layer1[0], "stride", (2, 2)), "stride (2, 2)"),
        (lambda model: setattr(model.layer1[0], "padding", (1, 1)), "padding (1, 1)"),
        (lambda model: setattr(model.layer1[0], "dilation", (2, 2)), "dilation"),
        (lambda model: setattr(model.layer3[1], "eps", 1e-3), "layer3.1 has eps 0.001"),
        (lambda model: setattr(model.layer4[3], "ceil_mode", True), "ceil_mode True"),
        (lambda model: setattr(model.layer4[3], "kernel_size", 3), "kernel_size 3"),
        (lambda model: setattr(model, "dropout", nn.ReLU()), "it has other layers (dropout)"),
        (lambda model: model.fc.append(nn.ReLU()), "fc has other layers (5)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whole_model_that_computes_otherwise_is_refused(
    tmp_path: Path, change: Any, said: str
) -> None:
    """All of them have the CNN's names and shapes; as a state dict they cannot be told apart."""
    model = altered(change)
    assert load_checkpoint(saved(tmp_path / "state.pt", model.state_dict()))
    assert said in refusal(saved(tmp_path / "CNN.pt", model))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.layer4[3], "kernel_size", (2, 2)),
        lambda model: setattr(model.layer1[1], "momentum", None),
        lambda model: setattr(model.layer1[2], "inplace", False),
        lambda model: delattr(model.layer1[0], "padding_mode"),
        lambda model: setattr(model, "note", {"mine": [1, (2, 3)]}),
    ],
)
def test_whole_model_that_computes_the_same_is_taken(tmp_path: Path, change: Any) -> None:
    assert load_checkpoint(saved(tmp_path / "CNN.pt", altered(change))).classes == 10


def test_whole_model_of_other_layers_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.LSTM(784, 10))
    message = refusal(saved(tmp_path / "CNN.pt", model))
    assert "another architecture: it has Flatten, LSTM" in message


def test_part_of_a_model_is_refused(tmp_path: Path) -> None:
    assert "missing layer1.0.weight" in refusal(saved(tmp_path / "CNN.pt", oracle.CNN().fc))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within torch 2.10's compiler
def test_compiled_whole_model_is_refused_and_its_remedy_works(tmp_path: Path) -> None:
    model = torch.compile(oracle.CNN())
    assert "would call torch._dynamo" in refusal(saved(tmp_path / "CNN.pt", model))
    assert load_checkpoint(saved(tmp_path / "CNN.pt", model.state_dict())).classes == 10  # type: ignore[attr-defined]


@pytest.mark.parametrize("save", ["scripted", "traced", "exported"])
def test_program_is_refused_and_its_remedy_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model, images = oracle.CNN().eval(), torch.rand(2, 1, 28, 28)
    path = Path("program.pt2" if save == "exported" else "program.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        if save == "scripted":
            torch.jit.script(model).save(path)
        elif save == "traced":
            torch.jit.trace(model, images).save(path)
        else:
            torch.export.save(torch.export.export(model, (images,)), path)
        message = refusal(path)
        assert "which is code" in message
        (remedy,) = (part for part in message.split(": ") if part.startswith("torch.save("))
        exec(remedy, {"torch": torch})  # noqa: S102
    assert same_weights(load_checkpoint(Path("weights.pt")).model, model.state_dict())


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


def test_layer_with_a_tensor_in_place_of_its_weight_is_refused(tmp_path: Path) -> None:
    model = CNN()
    vars(model.fc[4])["weight"] = -model.fc[4].weight.detach()
    message = refusal(saved(tmp_path / "CNN.pt", model))
    assert "fc.4 has an attribute of its own in place of weight" in message


class Scorer(CNN):
    """The CNN with a part that holds no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()


def test_whole_model_of_other_layers_whose_weights_fit_is_told_how_to_save_them(
    tmp_path: Path,
) -> None:
    model = Scorer()
    assert "its weights fit, so save them alone" in refusal(saved(tmp_path / "CNN.pt", model))
    assert load_checkpoint(saved(tmp_path / "state.pt", model.state_dict()))


def test_weights_beside_other_things_are_refused_by_their_names(tmp_path: Path) -> None:
    state = CNN().state_dict()
    assert "other things (epoch)" in refusal(saved(tmp_path / "CNN.pt", {**state, "epoch": 3}))


def test_long_history_beside_the_weights_does_not_matter(tmp_path: Path) -> None:
    content = {"state_dict": CNN().state_dict(), "losses": [0.5 + step for step in range(200_000)]}
    assert load_checkpoint(saved(tmp_path / "CNN.pt", content))
    content["losses"] *= 3
    message = refusal(saved(tmp_path / "CNN.pt", content))
    assert "a pickle of more than 4 MiB" in message
    assert "save the weights alone" in message
