import pytest
from torch import nn

from batchdigit.models.cnn import CNN
from batchdigit.models.network import Layer, cnn

# What of a layer does not change what it computes in eval().
WITHOUT_EFFECT = {"training", "inplace", "momentum"}


@pytest.mark.parametrize("classes", [1, 10, 26])
def test_state_is_that_of_pytorchs_network(classes: int) -> None:
    state = CNN(classes).state_dict()
    shapes = [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    assert list(cnn(classes).state_shapes().items()) == shapes


def test_layers_are_those_of_pytorchs_network() -> None:
    compare(cnn(), CNN())


def compare(ours: Layer, theirs: nn.Module) -> None:
    settings = {
        name: value
        for name, value in vars(theirs).items()
        if not name.startswith("_") and name not in WITHOUT_EFFECT
    }
    # Also what a later PyTorch adds to a layer has to be looked at.
    assert dict(ours.settings) == settings
    layers = dict(theirs.named_children())
    assert list(ours.layers) == list(layers)
    for name, layer in layers.items():
        assert ours.layers[name].kind == f"{type(layer).__module__}.{type(layer).__qualname__}"
        compare(ours.layers[name], layer)
