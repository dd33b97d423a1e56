"""The network as an ONNX file, written from its weights: no PyTorch, no onnx package.

An ONNX file is a protocol buffer (:mod:`batchdigit.models.protobuf`); ``onnx.proto3`` of the ONNX
project lists its messages and field numbers. Only what this one graph needs is written. BatchNorm
is folded into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from batchdigit.models.network import BATCHNORM, CONV, LINEAR, MAXPOOL, RELU, Layer, cnn
from batchdigit.models.protobuf import (
    Message,
    bytes_field,
    number_field,
    text_field,
)
from batchdigit.models.weights import Weights
from batchdigit.version import __version__

IR_VERSION = 8  # which the ONNX project's table of versions pairs with opset 18
OPSET = 18
INPUT = "images"
OUTPUT = "logits"
FIRST_LINEAR = "fc.0"  # takes the features of an image as one row

_FLOAT = 1  # TensorProto.DataType
_ATTRIBUTE_INT, _ATTRIBUTE_INTS = 2, 7  # AttributeProto.AttributeType


def onnx_model(weights: Weights) -> bytes:
    """The file: ``images`` float32[B, 1, 28, 28] to ``logits`` float32[B, K], for any B."""
    layers = dict(cnn(weights.spec).leaves())
    arrays = weights.folded
    nodes: Message = []
    tensors: Message = []
    value = INPUT
    for name, layer in layers.items():
        if layer.kind == BATCHNORM:  # folded into the convolution
            continue
        if name == FIRST_LINEAR:
            nodes += bytes_field(1, _node("Flatten", [value], "flat"))
            value = "flat"
        output = OUTPUT if name == list(layers)[-1] else name
        parameters = [f"{name}.{part}" for part in layer.tensors]
        nodes += bytes_field(1, _operation(layer, [value, *parameters], output))
        for key in parameters:
            tensors += bytes_field(5, _tensor(key, arrays[key]))
        value = output
    graph = [
        *nodes,
        *text_field(2, "batchdigit CNN"),
        *tensors,
        *bytes_field(11, _value(INPUT, weights.spec.shape)),
        *bytes_field(12, _value(OUTPUT, (weights.classes,))),
    ]
    model = [
        *number_field(1, IR_VERSION),
        *text_field(2, "batchdigit"),
        *text_field(3, __version__),
        *bytes_field(7, graph),
        *bytes_field(8, [*text_field(1, ""), *number_field(2, OPSET)]),
    ]
    return b"".join(model)


def _operation(layer: Layer, inputs: list[str], output: str) -> Message:
    if layer.kind == CONV:
        return _node("Conv", inputs, output, {"kernel_shape": layer.settings["kernel_size"]})
    if layer.kind == MAXPOOL:
        size, stride = (layer.settings[name] for name in ("kernel_size", "stride"))
        return _node(
            "MaxPool", inputs, output, {"kernel_shape": (size, size), "strides": (stride, stride)}
        )
    if layer.kind == LINEAR:
        return _node("Gemm", inputs, output, {"transB": 1})
    assert layer.kind == RELU, layer.kind  # noqa: S101  (there are no others)
    return _node("Relu", inputs, output)


def _node(
    operator: str,
    inputs: Iterable[str],
    output: str,
    attributes: Mapping[str, int | tuple[int, ...]] | None = None,
) -> Message:
    """NodeProto."""
    message: Message = []
    for name in inputs:
        message += text_field(1, name)
    message += (
        text_field(2, output) + text_field(3, f"{operator} {output}") + text_field(4, operator)
    )
    for name, value in (attributes or {}).items():
        message += bytes_field(5, _attribute(name, value))
    return message


def _attribute(name: str, value: int | tuple[int, ...]) -> Message:
    """AttributeProto."""
    if isinstance(value, int):
        return [*text_field(1, name), *number_field(3, value), *number_field(20, _ATTRIBUTE_INT)]
    numbers = [part for number in value for part in number_field(8, number)]
    return [*text_field(1, name), *numbers, *number_field(20, _ATTRIBUTE_INTS)]


def _tensor(name: str, array: NDArray[np.float32]) -> Message:
    """TensorProto, its numbers as little-endian bytes."""
    sizes = [part for size in array.shape for part in number_field(1, size)]
    numbers = np.ascontiguousarray(array, "<f4").data.cast("B")
    return [*sizes, *number_field(2, _FLOAT), *text_field(8, name), *bytes_field(9, [numbers])]


def _value(name: str, sizes: tuple[int, ...]) -> Message:
    """ValueInfoProto of float32[batch, sizes...]."""
    shape = bytes_field(1, text_field(2, "batch"))
    for size in sizes:
        shape += bytes_field(1, number_field(1, size))
    tensor_type = [*number_field(1, _FLOAT), *bytes_field(2, shape)]
    return [*text_field(1, name), *bytes_field(2, bytes_field(1, tensor_type))]
