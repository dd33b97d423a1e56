"""What a model file declares is checked against the CNN."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from batchdigit import CNN, load_checkpoint
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.check import PACKAGED
from tests.support import oracle
from tests.support.modelfiles import refusal, saved
from tests.support.samples import Program

GOOD = CNN().state_dict()


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
    assert "(1024, 100) instead of (1024, 2048)" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize("classes", [0, 1001])
def test_impossible_numbers_of_classes_are_refused(tmp_path: Path, classes: int) -> None:
    state = GOOD | {"fc.4.weight": torch.zeros(classes, 128), "fc.4.bias": torch.zeros(classes)}
    assert f"has {classes} classes" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64])
def test_tensors_that_hold_no_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD | {"fc.4.bias": torch.zeros(10, dtype=dtype)})
    assert "fc.4.bias is of type " in refusal(path)


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
def test_whole_model_that_computes_differently_is_refused(
    tmp_path: Path, change: Any, said: str
) -> None:
    """All of them have the CNN's names and shapes; as state dicts they cannot be told apart."""
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


def test_layer_with_a_tensor_in_place_of_its_weight_is_refused(tmp_path: Path) -> None:
    model = CNN()
    vars(model.fc[4])["weight"] = -model.fc[4].weight.detach()
    message = refusal(saved(tmp_path / "CNN.pt", model))
    assert "fc.4 has an attribute of its own instead of weight" in message


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


def test_commands_to_compare_with_the_packaged_model_work(tmp_path: Path, program: Program) -> None:
    """They need nothing that is not installed with the program."""
    assert PACKAGED == PACKAGED_WEIGHTS
    path = saved(tmp_path / "a model.pt", nn.Linear(3, 2).state_dict())
    theirs, ours = re.findall("`batchdigit (.*?)`", refusal(path))
    inspected = [program(*shlex.split(command)) for command in (theirs, ours)]
    assert [done.returncode for done in inspected] == [65, 0]
    assert "layer1.0.weight" in inspected[1].stdout
    assert "layer1.0.weight " not in inspected[0].stdout
    other = refusal(saved(tmp_path / "other.pt", nn.Sequential(nn.LSTM(3, 3))))
    assert re.findall("`batchdigit (.*?)`", other) == [ours]


@pytest.mark.parametrize(
    "value",
    [10**5_000, "x" * 101, (1,) * 5, (10**5_000, 1)],
    ids=["digits", "text", "items", "in a tuple"],
)
def test_setting_that_cannot_be_shown_is_not(tmp_path: Path, value: Any) -> None:
    model = CNN()
    vars(model.layer1[0])["stride"] = value
    message = refusal(saved(tmp_path / "CNN.pt", model))
    assert "layer1.0 has stride another value instead of (1, 1)" in message


def as_buffer(model: nn.Module) -> None:
    """The bias is where a convolution does not look for it."""
    layer = model.layer1[0]  # type: ignore[index]
    bias = layer.bias.detach()
    layer.bias = None
    layer._buffers["bias"] = bias


def as_both(model: nn.Module) -> None:
    layer = model.layer1[0]  # type: ignore[index]
    layer._buffers["bias"] = torch.ones_like(layer.bias)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (as_buffer, "layer1.0 has weight among its parameters"),
        (as_both, "layer1.0 has bias among its buffers"),
        (lambda model: vars(model.fc[0]).update(_call_impl=nn.ReLU()), "of _call_impl"),
        (lambda model: vars(model.fc[0]).update(_conv_forward=nn.ReLU), "of _conv_forward"),
        (lambda model: vars(model).update(forward=nn.ReLU()), "it has an attribute of its own"),
        (lambda model: model.fc[0].register_forward_hook(nn.ReLU()), "of _forward_hooks"),
        (lambda model: model.register_forward_pre_hook(nn.ReLU()), "of _forward_pre_hooks"),
    ],
)
def test_whole_model_that_would_compute_something_else_in_torch_is_refused(
    tmp_path: Path, change: Any, said: str
) -> None:
    """Those that torch computes with give other numbers there than their weights alone."""
    assert said in refusal(saved(tmp_path / "CNN.pt", altered(change)))


def test_careless_reader_computes_something_else() -> None:
    images = torch.rand(1, 1, 28, 28)
    for change in (as_both, lambda model: vars(model.fc[0]).update(_call_impl=nn.ReLU())):
        model = altered(change).eval()
        plain = oracle.CNN().eval()
        plain.load_state_dict(
            {name: model.state_dict()[name] for name in plain.state_dict()}, strict=True
        )
        try:
            same = bool(torch.equal(model(images), plain(images)))
        except RuntimeError:  # shapes that no longer fit
            same = False
        assert not same


@pytest.mark.parametrize(
    "change",
    [
        lambda wrapper: vars(wrapper).update(forward=nn.ReLU()),
        lambda wrapper: vars(wrapper).update(module=nn.ReLU()),
        lambda wrapper: wrapper.register_forward_hook(nn.ReLU()),
        lambda wrapper: vars(wrapper).update(dim=1),
    ],
)
def test_what_is_around_a_whole_model_must_hand_images_on(tmp_path: Path, change: Any) -> None:
    wrapper = nn.DataParallel(oracle.CNN())
    assert load_checkpoint(saved(tmp_path / "CNN.pt", wrapper)).classes == 10
    change(wrapper)
    assert "its DataParallel " in refusal(saved(tmp_path / "CNN.pt", wrapper))
