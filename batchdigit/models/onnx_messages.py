"""The messages of an ONNX file: which fields they have, and how nodes are written.

``onnx.proto`` of the ONNX project (https://github.com/onnx/onnx) lists them with their numbers. The
tests compare them with what the onnx package knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchdigit.models.protobuf import (
    BYTES,
    EIGHT_BYTES,
    FOUR_BYTES,
    NUMBER,
    Layout,
    Message,
    bytes_field,
    number_field,
    text_field,
)

_B, _N = BYTES, NUMBER

MODEL = Layout(
    {1: _N, 2: _B, 3: _B, 4: _B, 5: _N, 6: _B, 7: _B},
    {8: _B, 14: _B, 20: _B, 25: _B, 26: _B},
)
GRAPH = Layout({2: _B, 10: _B}, {1: _B, 5: _B, 11: _B, 12: _B, 13: _B, 14: _B, 15: _B, 16: _B})
NODE = Layout({3: _B, 4: _B, 6: _B, 7: _B, 8: _B}, {1: _B, 2: _B, 5: _B, 9: _B, 10: _B})
ATTRIBUTE = Layout(
    {1: _B, 2: FOUR_BYTES, 3: _N, 4: _B, 5: _B, 6: _B, 13: _B, 14: _B, 20: _N, 21: _B, 22: _B},
    {7: FOUR_BYTES, 8: _N, 9: _B, 10: _B, 11: _B, 15: _B, 23: _B},
    unread=(7, 8, 9),  # numbers and texts, of which a forest has millions
)
TENSOR = Layout(
    {2: _N, 3: _B, 8: _B, 9: _B, 12: _B, 14: _N},
    {1: _N, 4: FOUR_BYTES, 5: _N, 6: _B, 7: _N, 10: EIGHT_BYTES, 11: _N, 13: _B, 16: _B},
)
SPARSE_TENSOR = Layout({1: _B, 2: _B}, {3: _N})
VALUE = Layout({1: _B, 2: _B, 3: _B}, {4: _B})
TYPE = Layout({1: _B, 4: _B, 5: _B, 6: _B, 7: _B, 8: _B, 9: _B}, {})
TENSOR_TYPE = Layout({1: _N, 2: _B}, {})
SHAPE = Layout({}, {1: _B})
DIMENSION = Layout({1: _N, 2: _B, 3: _B}, {})
OPSET = Layout({1: _B, 2: _N}, {})
ENTRY = Layout({1: _B, 2: _B}, {})
QUANTIZATION = Layout({1: _B}, {2: _B})
FUNCTION = Layout(
    {1: _B, 8: _B, 10: _B, 13: _B},
    {4: _B, 5: _B, 6: _B, 7: _B, 9: _B, 11: _B, 12: _B, 14: _B},
)

# Of MODEL, GRAPH, NODE, ATTRIBUTE and FUNCTION: the fields that more than one module looks at.
MODEL_GRAPH, MODEL_METADATA = 7, 14
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12


class DataType(NamedTuple):
    """A type of numbers: the field of a tensor that holds them if ``raw_data`` does not.

    ``bits`` is the size of one number, ``per_entry`` how many of them make an entry of that field.
    """

    name: str
    bits: int
    field: int
    per_entry: float = 1


TEXT = "string"
FLOAT32 = 1
DATA_TYPES = {
    FLOAT32: DataType("float32", 32, 4),
    2: DataType("uint8", 8, 5),
    3: DataType("int8", 8, 5),
    4: DataType("uint16", 16, 5),
    5: DataType("int16", 16, 5),
    6: DataType("int32", 32, 5),
    7: DataType("int64", 64, 7),
    8: DataType(TEXT, 0, 6),
    9: DataType("bool", 8, 5),
    10: DataType("float16", 16, 5),
    11: DataType("float64", 64, 10),
    12: DataType("uint32", 32, 11),
    13: DataType("uint64", 64, 11),
    14: DataType("complex64", 64, 4, 0.5),
    15: DataType("complex128", 128, 10, 0.5),
    16: DataType("bfloat16", 16, 5),
    17: DataType("float8e4m3fn", 8, 5),
    18: DataType("float8e4m3fnuz", 8, 5),
    19: DataType("float8e5m2", 8, 5),
    20: DataType("float8e5m2fnuz", 8, 5),
    21: DataType("uint4", 4, 5, 2),
    22: DataType("int4", 4, 5, 2),
    23: DataType("float4e2m1", 4, 5, 2),
    24: DataType("float8e8m0", 8, 5),
    25: DataType("uint2", 2, 5, 4),
    26: DataType("int2", 2, 5, 4),
}
"""TensorProto.DataType, by number."""

DTYPE_NUMBERS = {kind.name: number for number, kind in DATA_TYPES.items()}

_ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_INTS = 2, 4, 7  # AttributeProto.AttributeType


def is_standard(domain: str) -> bool:
    """Whether the operators of a domain are those of the ONNX standard."""
    return domain in ("", "ai.onnx", "ai.onnx.ml")


def looks_like_ort_format(data: bytes) -> bool:
    """Whether ONNX Runtime would take the bytes for its own format, whatever else they are.

    It looks at these four alone, which in a protocol buffer may be part of the producer's name.
    """
    return data[4:8] == b"ORTM"


def node(
    operator: str,
    inputs: Iterable[str],
    output: str,
    attributes: Mapping[str, int | tuple[int, ...] | NDArray[np.generic]] | None = None,
    name: str = "",
) -> Message:
    """NodeProto. An array among the attributes becomes a tensor.

    ``name`` must be another one than that of all other nodes of the graph; it is made of
    ``operator`` and ``output`` if it is not given.
    """
    message: Message = []
    for taken in inputs:
        message += text_field(1, taken)
    message += text_field(2, output) + text_field(3, name or f"{operator} {output}")
    message += text_field(4, operator)
    for key, value in (attributes or {}).items():
        message += bytes_field(5, _attribute(key, value))
    return message


def _attribute(name: str, value: int | tuple[int, ...] | NDArray[np.generic]) -> Message:
    """AttributeProto."""
    if isinstance(value, int):
        return [*text_field(1, name), *number_field(3, value), *number_field(20, _ATTRIBUTE_INT)]
    if isinstance(value, tuple):
        numbers = [part for number in value for part in number_field(8, number)]
        return [*text_field(1, name), *numbers, *number_field(20, _ATTRIBUTE_INTS)]
    content = bytes_field(5, tensor("", value))
    return [*text_field(1, name), *content, *number_field(20, _ATTRIBUTE_TENSOR)]


def tensor(name: str, array: NDArray[np.generic]) -> Message:
    """TensorProto, its numbers as little-endian bytes."""
    sizes = [part for size in array.shape for part in number_field(1, size)]
    numbers = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data.cast("B")
    dtype = number_field(2, DTYPE_NUMBERS[array.dtype.name])
    label = text_field(8, name) if name else []
    return [*sizes, *dtype, *label, *bytes_field(9, [numbers])]


def value(name: str, dtype: str, shape: Iterable[int | str]) -> Message:
    """ValueInfoProto of a tensor; a text in ``shape`` names a dimension of any size."""
    sizes: Message = []
    for size in shape:
        sizes += bytes_field(
            1, text_field(2, size) if isinstance(size, str) else number_field(1, size)
        )
    tensor_type = [*number_field(1, DTYPE_NUMBERS[dtype]), *bytes_field(2, sizes)]
    return [*text_field(1, name), *bytes_field(2, bytes_field(1, tensor_type))]
