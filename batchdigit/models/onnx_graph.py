"""The network as an ONNX file, written from its weights: no PyTorch, no onnx package.

An ONNX file is a protocol buffer (:mod:`batchdigit.models.protobuf`); ``onnx.proto3`` of the ONNX
project lists its messages and field numbers. Only what this one graph needs is written. BatchNorm
is folded into the convolution before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchdigit.modelfiles.file import ModelFile
from batchdigit.modelfiles.limits import MAX_NAME
from batchdigit.models.network import BATCHNORM, CONV, LINEAR, MAXPOOL, RELU, Layer, cnn
from batchdigit.models.protobuf import (
    BYTES,
    NUMBER,
    Message,
    bytes_field,
    number_field,
    read_fields,
    text_field,
)
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.models.statedict import MAX_CLASSES
from batchdigit.models.weights import Arrays, Weights, check_finite
from batchdigit.version import __version__

IR_VERSION = 8  # which the ONNX project's table of versions pairs with opset 18
OPSET = 18
INPUT = "images"
OUTPUT = "logits"
FIRST_LINEAR = "fc.0"  # takes the features of an image as one row

# The fields that this program writes, by number, with their wire types.
_MODEL = {1: NUMBER, 2: BYTES, 3: BYTES, 7: BYTES, 8: BYTES, 14: BYTES}
_GRAPH = {1: BYTES, 2: BYTES, 5: BYTES, 11: BYTES, 12: BYTES}
_TENSOR = {1: NUMBER, 2: NUMBER, 8: BYTES, 9: BYTES}
_ENTRY = {1: BYTES, 2: BYTES}  # StringStringEntryProto
_SHA256 = re.compile("[0-9a-f]{64}")
_FLOAT = 1  # TensorProto.DataType
_ATTRIBUTE_INT, _ATTRIBUTE_INTS = 2, 7  # AttributeProto.AttributeType


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
    return _write(OnnxNetwork(weights.folded, weights.spec, weights.sha256))


def read_onnx(data: bytes) -> OnnxNetwork | None:
    """What :func:`onnx_model` was given; None for bytes that it would not write.

    A reader of ONNX in general accepts graphs of any kind, and cannot know whether the last
    operator gives logits or probabilities. So what is found here is written again, and the bytes
    must be the same.
    """
    try:
        model = read_fields(data, _MODEL)
        (content,) = model[7]
        arrays = dict(map(_read_tensor, read_fields(content, _GRAPH)[5]))
        metadata = dict(map(_read_entry, model[14]))
        (version,) = model[3]
        network = OnnxNetwork(
            arrays,
            MNIST.with_classes(int(metadata["classes"])),
            metadata["source_sha256"],
            _text(version),
        )
        if not 1 <= network.classes <= MAX_CLASSES or not _SHA256.fullmatch(network.sha256):
            return None
        fits = {key: array.shape for key, array in arrays.items()} == _shapes(network.spec)
        return network if fits and _write(network) == data else None
    except (KeyError, ValueError, IndexError, TypeError):
        return None


def checked_onnx(file: ModelFile) -> OnnxNetwork | None:
    """The CNN in an ONNX file that :func:`onnx_model` wrote; None for any other file.

    Raises CheckpointError for numbers that are not finite.
    """
    with file.refused_if_it_fails():
        network = read_onnx(file.data)
    if network is not None:
        check_finite(file.path, network.arrays)
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
    found = read_fields(message, _TENSOR)
    (name,), (numbers,) = found[8], found[9]
    return _text(name), np.frombuffer(numbers, "<f4").reshape(found[1])


def _read_entry(message: memoryview) -> tuple[str, str]:
    """A name and its value among the metadata."""
    found = read_fields(message, _ENTRY)
    (name,), (value,) = found[1], found[2]
    return _text(name), _text(value)


def _text(content: memoryview) -> str:
    text = bytes(content[:MAX_NAME]).decode("ascii")
    if len(content) > MAX_NAME or not text.isprintable():
        raise ValueError("a text of impossible length or kind")
    return text
