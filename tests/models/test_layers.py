"""The layers of a whole model are compared with the network's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from batchdigit import CNN, load_checkpoint
from tests.support import oracle
from tests.support.modelfiles import refusal, saved


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


def test_layer_with_a_tensor_in_place_of_its_weight_is_refused(tmp_path: Path) -> None:
    model = CNN()
    vars(model.fc[4])["weight"] = -model.fc[4].weight.detach()
    message = refusal(saved(tmp_path / "CNN.pt", model))
    assert "fc.4 has an attribute of its own instead of weight" in message


@pytest.mark.parametrize("classes", [1, 36])
def test_last_layer_may_have_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    path = saved(tmp_path / "CNN.pt", {"model": CNN(classes), "epoch": 3})
    assert load_checkpoint(path).classes == classes


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


@pytest.mark.parametrize(
    "change",
    [
        lambda averaged: vars(averaged).update(avg_fn=nn.ReLU()),
        lambda averaged: averaged.register_forward_hook(nn.ReLU()),
    ],
)
def test_what_averages_a_whole_model_must_hand_images_on(tmp_path: Path, change: Any) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(oracle.CNN())
    change(averaged)
    assert "its AveragedModel " in refusal(saved(tmp_path / "CNN.pt", averaged))
