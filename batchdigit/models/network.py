"""The network as data: its layers, what each keeps in a file, and how each computes.

:mod:`batchdigit.models.cnn` is the same network as PyTorch runs it. This module is for whatever
does without PyTorch, which takes a second to import: holding a model file against the network,
and writing the network as an ONNX graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

IMAGE_SIZE = 28
CLASSES = 10

CONV = "torch.nn.modules.conv.Conv2d"
BATCHNORM = "torch.nn.modules.batchnorm.BatchNorm2d"
RELU = "torch.nn.modules.activation.ReLU"
MAXPOOL = "torch.nn.modules.pooling.MaxPool2d"
LINEAR = "torch.nn.modules.linear.Linear"
SEQUENTIAL = "torch.nn.modules.container.Sequential"

COUNTER = "num_batches_tracked"  # BatchNorm's, used in training only


@dataclass(frozen=True)
class Layer:
    """A layer, or several in one, under the names that PyTorch uses.

    ``kind`` is the layer's class, ``settings`` the attributes of it that change what it computes,
    ``tensors`` the shapes of its parameters and buffers, ``layers`` what it is made of.
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
        """The layers that compute, each with its path (``layer1.0``), in the order they do."""
        for key, layer in self.layers.items():
            path = f"{name}.{key}".lstrip(".")
            if layer.layers:
                yield from layer.leaves(path)
            else:
                yield path, layer


def cnn(classes: int = CLASSES) -> Layer:
    """The CNN with ``classes`` outputs."""
    return Layer(
        "CNN",
        layers={
            "layer1": _sequential(*_convolution(1, 16)),
            "layer2": _sequential(*_convolution(16, 32), _maxpool()),
            "layer3": _sequential(*_convolution(32, 64)),
            "layer4": _sequential(*_convolution(64, 128), _maxpool()),
            "fc": _sequential(
                *(_linear(128 * 4 * 4, 1024), Layer(RELU)),
                *(_linear(1024, 128), Layer(RELU)),
                _linear(128, classes),
            ),
        },
    )


def _sequential(*layers: Layer) -> Layer:
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
