"""The network as data: its layers, what each keeps in a file, and how each computes.

:mod:`batchdigit.models.cnn` is the same network as PyTorch runs it. This module serves what works
without PyTorch, which takes a second to import: checking a model file against the network, and
writing the network as an ONNX graph.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from batchdigit.errors import UsageError
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.models.spec import MNIST, InputSpec

CONV = "torch.nn.modules.conv.Conv2d"
BATCHNORM = "torch.nn.modules.batchnorm.BatchNorm2d"
RELU = "torch.nn.modules.activation.ReLU"
MAXPOOL = "torch.nn.modules.pooling.MaxPool2d"
LINEAR = "torch.nn.modules.linear.Linear"
SEQUENTIAL = "torch.nn.modules.container.Sequential"

COUNTER = "num_batches_tracked"  # BatchNorm's, used in training only
BUFFERS = ("running_mean", "running_var", COUNTER)  # tensors that are no parameters


@dataclass(frozen=True)
class Layer:
    """A layer, or several in one, under the names that PyTorch uses.

    ``kind`` is the layer's class, ``settings`` are those of its attributes that change what it
    computes, ``tensors`` the shapes of its parameters and buffers, ``layers`` what it is made of.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the state dict, by name and in its order."""
        return {
            f"{name}.{tensor}": shape
            for name, layer in self.leaves()
            for tensor, shape in layer.tensors.items()
        }

    def leaves(self, name: str = "") -> Iterator[tuple[str, Layer]]:
        """The layers that compute, each with its path (``layer1.0``), in order of computation."""
        for key, layer in self.layers.items():
            path = f"{name}.{key}".lstrip(".")
            if layer.layers:
                yield from layer.leaves(path)
            else:
                yield path, layer


@functools.cache  # loading a model asks several times
def cnn(spec: InputSpec = MNIST) -> Layer:
    """The CNN for the images and the classes of ``spec``."""
    return Layer(
        "CNN",
        layers={
            "layer1": _sequential(_convolution(spec.channels, 16)),
            "layer2": _sequential([*_convolution(16, 32), _maxpool()]),
            "layer3": _sequential(_convolution(32, 64)),
            "layer4": _sequential([*_convolution(64, 128), _maxpool()]),
            "fc": _sequential(
                [
                    _linear(128 * side_of_features(spec) ** 2, 1024),
                    Layer(RELU),
                    _linear(1024, 128),
                    Layer(RELU),
                    _linear(128, spec.classes),
                ]
            ),
        },
    )


def cnn_input(declaration: Declaration) -> InputSpec:
    """What the CNN takes by a declaration.

    Raises UsageError for a declaration of another network: another size, say.
    """
    spec = InputSpec.declared(declaration.over(MNIST.declaration))
    names = ("size", "channels", "layout", "scores")
    fixed: dict[str, Any] = {name: getattr(MNIST, name) for name in names}
    for name, value in fixed.items():
        given = getattr(spec, name)
        if given not in (value, "auto"):
            raise UsageError(
                f"{Declaration(**{name: given}).flags()} does not fit the packaged kind of "
                f"network, which takes {Declaration(**{name: value}).flags()}",
                "leave it off, or say where your own network's code is by --network",
            )
    return replace(spec, scores=MNIST.scores)


def side_of_features(spec: InputSpec) -> int:
    """The side in pixels of what ``layer4`` gives to ``fc``.

    Two 3x3 convolutions take two pixels each, then pooling halves what is left; twice.
    """
    side = min(spec.size)
    for _ in range(2):
        side = (side - 4) // 2
    return side


def _sequential(layers: list[Layer]) -> Layer:
    return Layer(SEQUENTIAL, layers={str(place): layer for place, layer in enumerate(layers)})


def _convolution(channels_in: int, channels_out: int) -> list[Layer]:
    convolution = Layer(
        CONV,
        {
            "in_channels": channels_in,
            "out_channels": channels_out,
            "kernel_size": (3, 3),
            "stride": (1, 1),
            "padding": (0, 0),
            "dilation": (1, 1),
            "transposed": False,
            "output_padding": (0, 0),
            "groups": 1,
            "padding_mode": "zeros",
        },
        {"weight": (channels_out, channels_in, 3, 3), "bias": (channels_out,)},
    )
    names = ("weight", "bias", "running_mean", "running_var")
    batchnorm = Layer(
        BATCHNORM,
        {
            "num_features": channels_out,
            "eps": 1e-5,
            "affine": True,
            "track_running_stats": True,
        },
        {**dict.fromkeys(names, (channels_out,)), COUNTER: ()},
    )
    return [convolution, batchnorm, Layer(RELU)]


def _maxpool() -> Layer:
    return Layer(
        MAXPOOL,
        {
            "kernel_size": 2,
            "stride": 2,
            "padding": 0,
            "dilation": 1,
            "return_indices": False,
            "ceil_mode": False,
        },
    )


def _linear(features_in: int, features_out: int) -> Layer:
    return Layer(
        LINEAR,
        {"in_features": features_in, "out_features": features_out},
        {"weight": (features_out, features_in), "bias": (features_out,)},
    )
