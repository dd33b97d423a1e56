"""The messages are those that the onnx package knows, and writes."""

from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from onnx import helper, numpy_helper

from batchdigit.models import onnx_messages
from batchdigit.models.onnx_messages import (
    DATA_TYPES,
    is_standard,
    looks_like_ort_format,
    node,
    tensor,
    value,
)
from batchdigit.models.protobuf import BYTES, EIGHT_BYTES, FOUR_BYTES, NUMBER, Layout

MESSAGES = {
    "MODEL": onnx.ModelProto,
    "GRAPH": onnx.GraphProto,
    "NODE": onnx.NodeProto,
    "ATTRIBUTE": onnx.AttributeProto,
    "TENSOR": onnx.TensorProto,
    "SPARSE_TENSOR": onnx.SparseTensorProto,
    "VALUE": onnx.ValueInfoProto,
    "TYPE": onnx.TypeProto,
    "TENSOR_TYPE": onnx.TypeProto.Tensor,
    "SHAPE": onnx.TensorShapeProto,
    "DIMENSION": onnx.TensorShapeProto.Dimension,
    "OPSET": onnx.OperatorSetIdProto,
    "ENTRY": onnx.StringStringEntryProto,
    "QUANTIZATION": onnx.TensorAnnotation,
    "FUNCTION": onnx.FunctionProto,
}
WIRE_TYPES = {
    FieldDescriptor.TYPE_FLOAT: FOUR_BYTES,
    FieldDescriptor.TYPE_DOUBLE: EIGHT_BYTES,
    FieldDescriptor.TYPE_STRING: BYTES,
    FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_MESSAGE: BYTES,
    FieldDescriptor.TYPE_INT32: NUMBER,
    FieldDescriptor.TYPE_INT64: NUMBER,
    FieldDescriptor.TYPE_UINT64: NUMBER,
    FieldDescriptor.TYPE_ENUM: NUMBER,
}


def is_repeated(field: Any) -> bool:
    if hasattr(field, "is_repeated"):  # since protobuf 6.31
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def test_every_layout_is_compared() -> None:
    layouts = {name for name, each in vars(onnx_messages).items() if isinstance(each, Layout)}
    assert layouts == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_layout_is_the_one_that_the_onnx_package_knows(name: str) -> None:
    fields = MESSAGES[name].DESCRIPTOR.fields
    layout = getattr(onnx_messages, name)
    for repeated, ours in ((False, layout.once), (True, layout.often)):
        assert ours == {
            field.number: WIRE_TYPES[field.type]
            for field in fields
            if is_repeated(field) is repeated
        }


def test_data_types_are_those_of_the_onnx_package() -> None:
    theirs = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    ours = {number: kind.name for number, kind in DATA_TYPES.items() if number in theirs}
    names = {"float": "float32", "double": "float64"}
    assert ours == {number: names.get(theirs[number], theirs[number]) for number in ours}
    assert set(range(1, 24)) <= set(ours)


@pytest.mark.parametrize(
    "number", sorted(set(DATA_TYPES) & set(onnx.TensorProto.DataType.values()))
)
def test_numbers_of_a_type_are_where_the_onnx_package_puts_them(number: int) -> None:
    kind = DATA_TYPES[number]
    values: list[Any] = ["a"] * 8 if kind.name == "string" else [1] * 8
    typed = helper.make_tensor("t", number, [8], values)
    # ListFields leaves out what is empty.
    (data,) = [field for field, _ in typed.ListFields() if field.name.endswith("_data")]
    assert data.number == kind.field
    assert len(getattr(typed, data.name)) == 8 / kind.per_entry
    if kind.bits:
        array = numpy_helper.to_array(typed)
        raw = numpy_helper.from_array(array)
        assert len(raw.raw_data) == kind.bits


def test_standard_domains() -> None:
    assert all(map(is_standard, ("", "ai.onnx", "ai.onnx.ml")))
    assert not any(map(is_standard, ("com.microsoft", "ai.onnx.preview.training", " ", "AI.ONNX")))


def test_ort_format_is_told_by_the_bytes_that_onnx_runtime_looks_at() -> None:
    assert looks_like_ort_format(b"\x08\x08\x12\x04ORTM")
    assert not looks_like_ort_format(b"\x08\x08\x12\x05_ORTM")


def test_nodes_may_have_a_name() -> None:
    ours = onnx.NodeProto.FromString(b"".join(node("Op", [], "c", name="mine")))
    assert ours == helper.make_node("Op", [], ["c"], name="mine")


def test_nodes_are_those_of_the_onnx_package() -> None:
    ours = onnx.NodeProto.FromString(
        b"".join(
            node("Op", ["a", "b"], "c", {"axis": 1, "perm": (0, 2, 1), "value": np.float32([[5]])})
        )
    )
    theirs = helper.make_node(
        "Op",
        ["a", "b"],
        ["c"],
        name="Op c",
        axis=1,
        perm=[0, 2, 1],
        value=numpy_helper.from_array(np.float32([[5]])),
    )
    assert ours == theirs


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64"])
def test_tensors_are_those_of_the_onnx_package(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    ours = onnx.TensorProto.FromString(b"".join(tensor("t", array)))
    assert ours == numpy_helper.from_array(array, "t")


def test_values_are_those_of_the_onnx_package() -> None:
    ours = onnx.ValueInfoProto.FromString(b"".join(value("x", "uint8", ("batch", 1, 28))))
    assert ours == helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["batch", 1, 28])
