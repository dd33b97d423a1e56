"""Files of any origin: what they hold is what the onnx package finds, or they are refused."""

import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.internal.decoder import _DecodeVarint
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from batchdigit import CheckpointError
from batchdigit.modelfiles.file import ModelFile
from batchdigit.models.onnx_file import MAX_METADATA, OnnxFile, OnnxValue, read_onnx_file
from batchdigit.models.protobuf import bytes_field, number_field, text_field
from tests.support.mutate import MUTATIONS
from tests.support.onnx_models import Change, classifier, model_of, onnx_file, value, weights


def read(model: Any) -> OnnxFile:
    return read_onnx_file(onnx_file(model))


def refusal(model: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read(model)
    assert caught.value.remedy
    assert caught.value.problem.startswith("the model models/other.onnx ")
    return caught.value


def facts(found: OnnxFile) -> dict[str, Any]:
    return vars(found)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (("n", 1, 4, 4), "[n, 1, 4, 4]"),
        ((1, 1, 4, 4), "[1, 1, 4, 4]"),
        ((64, 4, 4, 1), "[64, 4, 4, 1]"),
        ((None, 4, 4), "[?, 4, 4]"),
        (("n", 16), "[n, 16]"),
        (None, "[...]"),
    ],
)
def test_input_is_found_in_any_opset(
    opset: int, shape: Sequence[int | str | None] | None, text: str
) -> None:
    found = read(classifier(shape, opset=opset))
    (taken,) = found.inputs
    assert (taken.name, taken.dtype) == ("x", "float32")
    assert taken.shape == (None if shape is None else tuple(shape))
    assert (taken.shape_text, taken.text) == (text, f"x float32{text}")
    assert found.outputs == (OnnxValue("y", "float32", ("n", 3)),)
    assert found.opsets == {"": opset}


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8"])
def test_types_of_images(dtype: str) -> None:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert read(classifier(dtype=number)).inputs[0].dtype == dtype


def test_file_is_described() -> None:
    model = classifier()
    model.producer_version = "2.0"
    helper.set_model_props(model, {"names": "{0: 'null'}", "empty": ""})
    found = read(model)
    assert found.operators == {"Cast": 1, "Flatten": 1, "MatMul": 1}
    assert found.ir_version == 8
    assert found.producer == "other 2.0"
    assert found.metadata == {"names": "{0: 'null'}", "empty": ""}
    ((name, tensor),) = found.initializers.items()
    assert (name, tensor.dtype, tensor.shape) == ("w", "float32", (16, 3))


def test_initializers_that_are_inputs_are_no_inputs() -> None:
    model = classifier(ir_version=3)
    model.graph.input.insert(0, value("w", [16, 3]))
    assert [each.name for each in read(model).inputs] == ["x"]


def test_both_names_of_the_standard_domain_are_one() -> None:
    model = classifier()
    model.opset_import[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"
    found = read(model)
    assert found.opsets == {"": 17}
    assert found.operators["Cast"] == 1


def test_size_below_zero_is_an_unknown_one() -> None:
    assert read(classifier((-1, 1, 4, 4))).inputs[0].shape == (None, 1, 4, 4)


def test_metadata_is_printable_and_bounded() -> None:
    model = classifier()
    helper.set_model_props(model, {"a\x1b[31m": "1\n2", "long": "é" * (MAX_METADATA + 1)})
    found = read(model).metadata
    assert found == {"a\\x1b[31m": "1\\n2", "long": "é" * (MAX_METADATA - 1) + "…"}
    broken = model.SerializeToString() + b"".join(
        bytes_field(14, [*text_field(1, "k"), *bytes_field(2, [b"\xff\xfe"])])
    )
    assert read(broken).metadata["k"] == r"\xff\xfe"


def test_fields_that_nobody_knows_are_ignored() -> None:
    data = classifier().SerializeToString()
    more = data + b"".join(number_field(99, 5)) + b"".join(text_field(2000, "new"))
    more += bytes([98 << 3 & 0x7F | 0x80 | 5, 98 >> 4]) + b"1234"
    assert onnx.ModelProto.FromString(more).graph == onnx.ModelProto.FromString(data).graph
    assert facts(read(more)) == facts(read(data))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "takes no input;"),
        ([value("images", [1, 1, 4, 4]), value("mask", [1])], "takes 2 inputs, images and mask;"),
        (
            [value(f"x{number}", [1, 1]) for number in range(9)],
            "takes 9 inputs, x0, x1, x2, x3, x4 and others;",
        ),
        ([value("x", [])], r"takes x float32\[\], which is no batch of images;"),
        ([value("x", [4])], r"takes x float32\[4\], which is no batch of images;"),
        ([value("x", [1, 1, 1, 4, 4])], r"takes x float32\[1, 1, 1, 4, 4\], which is no batch"),
        ([value("x", ["n", 1], TensorProto.STRING)], r"takes text \(x string\[n, 1\]\);"),
        ([value("x", ["n", 16], TensorProto.INT64)], r"takes x int64\[n, 16\];"),
        ([value("x", ["n", 16], TensorProto.BOOL)], r"takes x bool\[n, 16\];"),
        ([value("x", ["n", 16], 0)], "takes x, which is no tensor"),
        ([value("x", ["n", 16], 99)], "takes x, which is no tensor"),
        ([helper.make_tensor_sequence_value_info("x", 1, None)], "takes x, which is no tensor"),
        ([helper.make_sparse_tensor_value_info("x", 1, [1, 1])], "takes x, which is no tensor"),
        ([onnx.ValueInfoProto(name="x")], "takes x, which is no tensor"),
    ],
)
def test_input_that_is_no_batch_of_images_is_refused(inputs: list[Any], message: str) -> None:
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], inputs, [value("y", None)])
    assert re.search(message, str(refusal(model)))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], "gives no output;"),
        ([value("y", None, TensorProto.STRING)], "gives no tensor of numbers;"),
        ([value("y", None, TensorProto.BOOL)], "gives no tensor of numbers;"),
        ([helper.make_tensor_sequence_value_info("y", 1, None)], "gives no tensor of numbers;"),
        ([onnx.ValueInfoProto(name="y")], "gives no tensor of numbers;"),
    ],
)
def test_output_that_is_no_tensor_of_numbers_is_refused(outputs: list[Any], message: str) -> None:
    model = model_of([helper.make_node("Neg", ["x"], ["y"])], [value("x", [1, 4])], outputs)
    assert message in str(refusal(model))


def test_one_tensor_of_numbers_among_the_outputs_is_enough() -> None:
    model = classifier()
    model.graph.output.insert(0, helper.make_tensor_sequence_value_info("labels", 8, None))
    model.graph.output.append(value("class", ["n"], TensorProto.INT64))
    assert [(each.name, each.dtype) for each in read(model).outputs] == [
        ("labels", ""),
        ("y", "float32"),
        ("class", "int64"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.ClearField("graph"), "has no graph, or no version"),
        (lambda model: model.ClearField("ir_version"), "has no graph, or no version"),
        (lambda model: model.ClearField("opset_import"), "of which version its operators are"),
        (
            lambda model: setattr(model.opset_import[0], "domain", "ai.onnx.ml"),
            "of which version its operators of ai.onnx are",
        ),
        (
            lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 9)),
            "two versions",
        ),
        (lambda model: model.opset_import[0].ClearField("version"), "version its operators are"),
        (lambda model: model.training_info.add(), "holds instructions for training"),
        (lambda model: setattr(model.graph.input[0], "name", "x\n"), "cannot be printed"),
        (lambda model: setattr(model.graph.input[0], "name", "x" * 1_001), "too long"),
        (
            lambda model: [model.metadata_props.add(key=str(n)) for n in range(1_001)],
            "1001 entries of metadata",
        ),
    ],
)
def test_model_that_is_not_whole_is_refused(change: Change, message: str) -> None:
    model = classifier()
    change(model)
    assert message in str(refusal(model))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"\xff" * 100,
        b"PK\x03\x04",
        b"{}",
        b"\x08",
        b"\x08\x80",
        b"\x08\x08\x3a\x7f",
        b"\x08\x08\x3a\x03\x0a\x05\x00\x42\x02\x10\x11",
        b"\x0b\x0c",
    ],
)
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    assert "no ONNX file" in str(refusal(data))


def test_file_in_onnx_runtimes_own_format_is_refused_whatever_else_it_is() -> None:
    model = classifier()
    model.producer_name = "ORTM"
    data = model.SerializeToString()
    assert onnx.ModelProto.FromString(data) == model
    # ONNX Runtime does not look for a protocol buffer in it.
    with pytest.raises(Exception, match="ORT model verification failed"):
        onnxruntime.InferenceSession(data)
    assert "ONNX Runtime's own format" in str(refusal(data))


def inside(*path: int, extra: bytes) -> bytes:
    """The model, with more bytes at the end of the first message at this path of fields."""

    def grown(data: bytes, path: tuple[int, ...]) -> bytes:
        if not path:
            return data + extra
        grown_one = False
        pieces = []
        for number, content, raw in fields_of(data):
            if number == path[0] and not grown_one:
                grown_one = True
                pieces += bytes_field(number, [grown(content, path[1:])])
            else:
                pieces.append(raw)
        assert grown_one
        return b"".join(pieces)

    return grown(classifier().SerializeToString(), path)


def fields_of(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Fields of a message that Google's library wrote."""
    fields, position = [], 0
    while position < len(data):
        start = position
        tag, position = _DecodeVarint(data, position)
        size, position = _DecodeVarint(data, position)
        content = b""
        if tag & 7 == 2:
            content, position = data[position : position + size], position + size
        fields.append((tag >> 3, content, data[start:position]))
    return fields


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ((), number_field(1, 9)),
        ((), text_field(2, "again")),
        ((), bytes_field(7, text_field(2, "merged"))),
        ((7,), text_field(2, "again")),
        ((7, 1), text_field(4, "Neg")),
        ((7, 1, 5), number_field(3, 11)),
        ((7, 5), number_field(2, 1)),
        ((7, 5), bytes_field(9, [b"\0" * 192])),
        ((7, 11), text_field(1, "other")),
        ((7, 11), bytes_field(2, [])),
        ((7, 11, 2), bytes_field(1, number_field(1, 1))),
        ((7, 11, 2, 1), number_field(1, 1)),
        ((7, 11, 2, 1, 2, 1), text_field(2, "m")),
        ((8,), number_field(2, 9)),
    ],
)
def test_field_that_stands_twice_is_refused(path: tuple[int, ...], extra: Any) -> None:
    data = inside(*path, extra=b"".join(extra))
    onnx.ModelProto.FromString(data)  # which takes it
    assert "stands twice" in str(refusal(data))


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ((7, 11, 2), bytes_field(4, [])),  # a tensor and a sequence
        ((7, 11, 2, 1, 2, 1), number_field(1, 4)),  # a name and a number
    ],
)
def test_what_is_two_things_at_once_is_refused(path: tuple[int, ...], extra: Any) -> None:
    data = inside(*path, extra=b"".join(extra))
    onnx.ModelProto.FromString(data)
    assert "two things at once" in str(refusal(data))


def test_file_that_is_cut_anywhere_is_refused_or_means_the_same() -> None:
    model = classifier()
    helper.set_model_props(model, {"key": "value"})
    data = model.SerializeToString()
    whole = facts(read(data)) | {"metadata": {}}
    accepted = []
    for length in range(len(data)):
        try:
            found = facts(read(data[:length]))
        except CheckpointError:
            continue
        accepted.append(length)
        assert found | {"metadata": {}} == whole
    assert len(accepted) == 1  # where all but the metadata is there
    assert len(data) - accepted[0] == len(model.metadata_props[0].SerializeToString()) + 2


@pytest.mark.parametrize("seed", range(4))
def test_damaged_file_is_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    good = classifier().SerializeToString()
    agreed = 0
    problems = []
    for _ in range(150):
        data = chance.choice(MUTATIONS)(bytearray(good), range(len(good)), chance)
        try:
            found = read_onnx_file(ModelFile(onnx_file(b"").path, bytes(data)))
        except CheckpointError as error:
            problems.append(error.problem)
            continue
        try:
            theirs = onnx.ModelProto.FromString(bytes(data))
        except DecodeError:  # it is damaged where nobody here looks
            continue
        agreed += 1
        assert [each.name for each in found.outputs] == [each.name for each in theirs.graph.output]
        assert {each.name for each in theirs.graph.initializer} == set(found.initializers)
        assert sum(found.operators.values()) == len(theirs.graph.node)
    assert agreed > 10
    assert len(problems) > 10
    assert not [each for each in problems if "cannot be read (" in each]  # for another exception


def test_file_of_many_fields_is_refused() -> None:
    data = classifier().SerializeToString()
    many = b"".join(bytes_field(26, [])) * 500_001
    assert "fields" in str(refusal(data + many))


def test_two_weights_of_one_name_are_refused() -> None:
    model = classifier()
    model.graph.initializer.append(weights("w", np.zeros(3, np.float32)))
    assert "holds the weights w twice" in str(refusal(model))


def test_version_that_is_said_twice_is_accepted() -> None:
    """As some converters write it."""
    model = classifier((1, 784), opset=17)
    model.opset_import.append(helper.make_opsetid("", 17))
    assert read(model).opsets == {"": 17}
