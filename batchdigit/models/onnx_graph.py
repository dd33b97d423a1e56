"""The network as an ONNX file, written from its weights: no PyTorch, no onnx package.

An ONNX file is a protocol buffer (:mod:`batchdigit.models.protobuf`); ``onnx.proto3`` of the ONNX
project lists its messages and field numbers. Only what this one graph needs is written. BatchNorm
is folded into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchdigit.modelfiles.file import CONVERT, ModelFile
from batchdigit.models.network import BATCHNORM, CONV, LINEAR, MAXPOOL, RELU, Layer, cnn
from batchdigit.models.protobuf import Message, bytes_field, fields, number_field, text_field
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.models.statedict import MAX_CLASSES
from batchdigit.models.weights import Weights, check_finite
from batchdigit.version import __version__

IR_VERSION = 8  # which the ONNX project's table of versions pairs with opset 18
OPSET = 18
INPUT = "images"
OUTPUT = "logits"
FIRST_LINEAR = "fc.0"  # takes the features of an image as one row

_FLOAT = 1  # TensorProto.DataType
_ATTRIBUTE_INT, _ATTRIBUTE_INTS = 2, 7  # AttributeProto.AttributeType

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """What an ONNX file of this program holds.

    ``arrays`` are the weights, BatchNorm folded in, under the names that they have in the file.
    ``spec`` is what the network takes and gives, ``sha256`` the digest of the model file that the
    weights come from, ``version`` that of the program that wrote the file.
    """

    arrays: Arrays
    spec: InputSpec
    sha256: str
    version: str = __version__

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return self.spec.classes


def onnx_model(weights: Weights) -> bytes:
    """The file: ``images`` float32[B, 1, 28, 28], 0 to 1, to ``logits`` float32[B, K], for any B.

    Its metadata holds the SHA-256 of the model file and the number of classes, as text.
    """
    return _write(OnnxNetwork(_folded_arrays(weights), weights.spec, weights.sha256))


def read_onnx(data: bytes) -> OnnxNetwork | None:
    """What :func:`onnx_model` was given; None for bytes that it would not write.

    A reader of ONNX in general accepts graphs of any kind, and cannot know whether the last
    operator gives logits or probabilities. So what is found here is written again, and the bytes
    must be the same.
    """
    try:
        model = dict(fields(memoryview(data)))
        graph = list(fields(model[7]))
        arrays = dict(_read_tensor(content) for number, content in graph if number == 5)
        entries = [dict(fields(content)) for number, content in fields(data) if number == 14]
        metadata = {bytes(entry[1]): bytes(entry[2]).decode() for entry in entries}
        network = OnnxNetwork(
            arrays,
            MNIST.with_classes(int(metadata[b"classes"])),
            metadata[b"source_sha256"],
            bytes(model[3]).decode(),
        )
        if not 1 <= network.classes <= MAX_CLASSES:
            return None
        fits = {key: array.shape for key, array in arrays.items()} == _shapes(network.spec)
        return network if fits and _write(network) == data else None
    except (KeyError, ValueError, IndexError, TypeError):
        return None


def checked_onnx(file: ModelFile) -> OnnxNetwork:
    """The network in an ONNX file; raises CheckpointError for a file of another program."""
    network = read_onnx(file.data)
    if network is None:
        raise file.refusal("is an ONNX file that this program did not write", CONVERT)
    check_finite(file, network.arrays)
    return network


def _shapes(spec: InputSpec) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.{part}": shape
        for name, layer in cnn(spec).leaves()
        if layer.kind in (CONV, LINEAR)
        for part, shape in layer.tensors.items()
    }


def _write(network: OnnxNetwork) -> bytes:
    layers = dict(cnn(network.spec).leaves())
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
            tensors += bytes_field(5, _tensor(key, network.arrays[key]))
        value = output
    graph = [
        *nodes,
        *text_field(2, "batchdigit CNN"),
        *tensors,
        *bytes_field(11, _value(INPUT, network.spec.shape)),
        *bytes_field(12, _value(OUTPUT, (network.classes,))),
    ]
    model = [
        *number_field(1, IR_VERSION),
        *text_field(2, "batchdigit"),
        *text_field(3, network.version),
        *bytes_field(7, graph),
        *bytes_field(8, [*text_field(1, ""), *number_field(2, OPSET)]),
    ]
    metadata = {"source_sha256": network.sha256, "classes": str(network.classes)}
    for key, text in metadata.items():
        model += bytes_field(14, [*text_field(1, key), *text_field(2, text)])
    return b"".join(model)


def _folded_arrays(weights: Weights) -> dict[str, NDArray[np.float32]]:
    layers = dict(cnn(weights.spec).leaves())
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, layer in layers.items():
        if layer.kind == LINEAR:
            for part in layer.tensors:
                arrays[f"{name}.{part}"] = weights.single[f"{name}.{part}"]
        elif layer.kind == CONV:
            batchnorm = f"{name.rpartition('.')[0]}.1"
            eps = layers[batchnorm].settings["eps"]
            weight, bias = _folded(name, batchnorm, eps, weights.single)
            arrays |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return arrays


def _folded(
    conv: str, batchnorm: str, eps: float, arrays: Arrays
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """W' = W·γ/√(σ²+ε), b' = (b-μ)·γ/√(σ²+ε) + β, computed in float64."""
    double = {
        part: arrays[f"{batchnorm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    scale = double["weight"] / np.sqrt(double["running_var"] + eps)
    weight = arrays[f"{conv}.weight"] * scale[:, None, None, None]
    bias = (arrays[f"{conv}.bias"] - double["running_mean"]) * scale + double["bias"]
    return weight.astype(np.float32), bias.astype(np.float32)


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


def _read_tensor(message: memoryview) -> tuple[str, NDArray[np.float32]]:
    found = list(fields(message))
    content = dict(found)
    shape = [value for number, value in found if number == 1]
    return bytes(content[8]).decode(), np.frombuffer(content[9], "<f4").reshape(shape)
