"""The network as data is the network that PyTorch runs."""

import pytest
import torch
from torch import nn

from batchdigit import UsageError
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.models.cnn import CNN
from batchdigit.models.network import Layer, cnn, cnn_input
from batchdigit.models.spec import MNIST, InputSpec

# Settings of a layer that do not change what it computes in eval().
WITHOUT_EFFECT = {"training", "inplace", "momentum"}


@pytest.mark.parametrize("classes", [1, 10, 26])
def test_state_is_that_of_pytorchs_network(classes: int) -> None:
    state = CNN(classes).state_dict()
    shapes = [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    assert list(cnn(MNIST.with_classes(classes)).state_shapes().items()) == shapes


@pytest.mark.parametrize("size", [16, 27, 28, 32, 41])
@pytest.mark.parametrize("channels", [1, 3])
def test_layers_fit_the_images_that_are_declared(size: int, channels: int) -> None:
    """PyTorch accepts such images, and the network as data has the same shapes."""
    spec = InputSpec((size, size), channels, classes=7)
    model = CNN(spec=spec).eval()
    assert model(torch.zeros(2, *spec.shape)).shape == (2, 7)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert cnn(spec).state_shapes() == shapes


def test_layers_are_those_of_pytorchs_network() -> None:
    compare(cnn(), CNN())


def compare(ours: Layer, theirs: nn.Module) -> None:
    settings = {
        name: value
        for name, value in vars(theirs).items()
        if not name.startswith("_") and name not in WITHOUT_EFFECT
    }
    # Whatever a later PyTorch adds to a layer must be looked at, too.
    assert dict(ours.settings) == settings
    layers = dict(theirs.named_children())
    assert list(ours.layers) == list(layers)
    for name, layer in layers.items():
        assert ours.layers[name].kind == f"{type(layer).__module__}.{type(layer).__qualname__}"
        compare(ours.layers[name], layer)


def test_cnn_takes_what_is_declared_of_its_pixels() -> None:
    declared = Declaration(
        range="0-255", mean=(33.0,), std=(78.0,), expects="dark-on-light", transpose=True
    )
    spec = cnn_input(declared)
    assert spec == InputSpec(
        range="0-255",
        mean=(33.0,),
        std=(78.0,),
        expects="dark-on-light",
        transpose=True,
        scores="logits",
    )
    assert cnn_input(Declaration()) == cnn_input(MNIST.declaration) == MNIST
    assert cnn_input(Declaration(scores="auto")) == MNIST


@pytest.mark.parametrize(
    ("declared", "flags"),
    [
        (Declaration(size=(32, 32)), "--input-size 32"),
        (Declaration(channels=3), "--channels 3"),
        (Declaration(layout="flat"), "--layout flat"),
        (Declaration(scores="probabilities"), "--scores probabilities"),
    ],
)
def test_declaration_of_another_network_is_no_cnns(declared: Declaration, flags: str) -> None:
    with pytest.raises(UsageError) as caught:
        cnn_input(declared)
    assert caught.value.problem.startswith(f"{flags} does not fit")
    assert "--network" in caught.value.remedy
