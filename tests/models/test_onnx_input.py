"""What ONNX Runtime makes of the fused model is what numpy makes of the pixels by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from batchdigit.models.onnx_file import parse_onnx
from batchdigit.models.onnx_input import INPUT, with_pixels_as_input
from batchdigit.models.protobuf import bytes_field, text_field
from batchdigit.models.spec import InputSpec
from tests.support.onnx_models import (
    FLOAT,
    branch,
    classifier,
    function,
    model_of,
    value,
    weights,
    with_functions,
)

Pixels = NDArray[np.uint8]
OPSETS = [7, 9, 11, 13, 17, 21]
BY_HAND = {  # [B, C, H, W] to what a network of this layout takes
    "nchw": lambda x: x,
    "nhwc": lambda x: np.transpose(x, (0, 2, 3, 1)),
    "nhw": lambda x: x[:, 0],
    "flat": lambda x: x.reshape(len(x), -1),
}


def pixels_of(spec: InputSpec, batch: int = 3) -> Pixels:
    chance = np.random.default_rng(5)
    pixels: Pixels = chance.integers(0, 256, (batch, *spec.shape), np.uint8)
    return pixels


def fuse(model: Any, spec: InputSpec, **options: Any) -> bytes:
    given = {"output": None, "scores": "logits", "metadata": {}} | options
    return with_pixels_as_input(model.SerializeToString(), spec, **given)


def session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(data: bytes, pixels: Pixels) -> NDArray[np.float32]:
    opened = session(data)
    (taken,), (given,) = opened.get_inputs(), opened.get_outputs()
    assert (taken.name, taken.type, given.type) == (INPUT, "tensor(uint8)", "tensor(float)")
    (result,) = opened.run(None, {INPUT: pixels})
    assert isinstance(result, np.ndarray)
    return result


def identity(
    shape: Sequence[int | str | None] | None, *, dtype: int = FLOAT, opset: int = 17, **parts: Any
) -> Any:
    """Gives as scores what it takes, so that every number can be compared."""
    nodes = [
        make_node("Cast", ["x"], ["float"], to=FLOAT),
        make_node("Flatten", ["float"], ["y"]),
    ]
    return model_of(
        nodes, [value("x", shape, dtype)], [value("y", ["n", None])], opset=opset, **parts
    )


def prepared(spec: InputSpec, pixels: Pixels) -> NDArray[np.float32]:
    """By the rules of the declaration, in float32, step by step."""
    numbers = pixels.astype(np.float32)
    if spec.expects == "dark-on-light":
        numbers = np.float32(255) - numbers
    if spec.range == "0-1":
        numbers /= np.float32(255)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        numbers[:, channel] -= np.float32(mean)
        numbers[:, channel] /= np.float32(std)
    if spec.transpose:
        numbers = np.transpose(numbers, (0, 1, 3, 2))
    result: NDArray[np.float32] = BY_HAND[spec.layout](numbers)
    return result


def shape_of(spec: InputSpec, batch: int | str | None = "n") -> list[int | str | None]:
    return [batch, *prepared(spec, pixels_of(spec)).shape[1:]]


GRAY = {"size": (4, 6), "classes": 24}
COLOUR = {"size": (4, 6), "channels": 3, "classes": 72}
NORMALISED = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SPECS = [
    {**GRAY},
    {**GRAY, "range": "0-255"},
    {**GRAY, "mean": (0.1307,), "std": (0.3081,)},
    {**GRAY, "mean": (0.5,), "expects": "dark-on-light"},
    {**GRAY, "std": (0.5,), "transpose": True},
    {**GRAY, "range": "0-255", "mean": (127.5,), "std": (127.5,), "expects": "dark-on-light"},
    {**COLOUR, **NORMALISED},
    {**COLOUR, **NORMALISED, "expects": "dark-on-light", "transpose": True},
]


@pytest.mark.parametrize(
    ("given", "layout"),
    [
        (given, layout)
        for given in SPECS
        for layout in BY_HAND
        if layout != "nhw" or "channels" not in given  # which has one channel
    ],
)
def test_numbers_are_those_that_numpy_makes(given: dict[str, Any], layout: str) -> None:
    spec = InputSpec(**given, layout=layout)
    pixels = pixels_of(spec)
    fused = fuse(identity(shape_of(spec)), spec)
    onnx.checker.check_model(fused, full_check=True)
    expected = prepared(spec, pixels)
    assert np.array_equal(run(fused, pixels), expected.reshape(len(pixels), -1))
    assert np.array_equal(spec.prepare(pixels.astype(np.float32)), expected)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("layout", BY_HAND)
def test_every_opset_has_the_nodes(opset: int, layout: str) -> None:
    spec = InputSpec(
        **GRAY, mean=(0.1,), std=(0.3,), expects="dark-on-light", transpose=True, layout=layout
    )
    pixels = pixels_of(spec)
    model = identity(shape_of(spec), opset=opset, ir_version=3 if opset < 9 else 8)
    fused = fuse(model, spec, scores="log-probabilities")
    onnx.checker.check_model(fused, full_check=True)
    expected = np.exp(prepared(spec, pixels).reshape(len(pixels), -1))
    np.testing.assert_allclose(run(fused, pixels), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64", "float32"])
@pytest.mark.parametrize("layout", BY_HAND)
def test_network_gets_the_type_that_it_takes(dtype: str, layout: str) -> None:
    spec = InputSpec(**GRAY, range="0-255", layout=layout)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    pixels = pixels_of(spec)
    fused = fuse(identity(shape_of(spec), dtype=number), spec)
    onnx.checker.check_model(fused, full_check=True)
    assert np.array_equal(run(fused, pixels), prepared(spec, pixels).reshape(len(pixels), -1))


@pytest.mark.parametrize("batch", [1, 5, "n", None])
@pytest.mark.parametrize("layout", BY_HAND)
def test_batch_is_as_large_as_the_network_takes_it(batch: int | str | None, layout: str) -> None:
    spec = InputSpec(**GRAY, layout=layout)
    fused = fuse(identity(shape_of(spec, batch)), spec)
    opened = session(fused)
    expected = batch if isinstance(batch, int) else "batch"
    assert opened.get_inputs()[0].shape == [expected, 1, 4, 6]
    assert opened.get_outputs()[0].shape == [expected, 24]
    sizes = [batch] if isinstance(batch, int) else [1, 3, 7]
    for size in sizes:
        pixels = pixels_of(spec, size)
        assert np.array_equal(run(fused, pixels), prepared(spec, pixels).reshape(size, -1))


def test_network_without_a_shape_is_given_what_is_declared() -> None:
    spec = InputSpec(**GRAY, layout="nhwc")
    pixels = pixels_of(spec)
    fused = fuse(identity(None), spec)
    assert np.array_equal(run(fused, pixels), prepared(spec, pixels).reshape(3, -1))


def test_scores_are_those_of_the_network() -> None:
    spec = InputSpec(size=(4, 4), classes=3)
    pixels = pixels_of(spec)
    model = classifier()
    alone = session(model.SerializeToString())
    (expected,) = alone.run(None, {"x": prepared(spec, pixels)})
    for scores, name in (("logits", "logits"), ("probabilities", "probabilities")):
        fused = fuse(model, spec, scores=scores)
        assert [each.name for each in session(fused).get_outputs()] == [name]
        assert np.array_equal(run(fused, pixels), expected)
    fused = fuse(model, spec, scores="log-probabilities")
    assert [each.name for each in session(fused).get_outputs()] == ["probabilities"]
    np.testing.assert_allclose(run(fused, pixels), np.exp(expected), rtol=1e-6)


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.FLOAT16])
@pytest.mark.parametrize("opset", OPSETS)
def test_scores_of_other_types_and_with_sizes_of_1_behind_become_rows(
    dtype: int, opset: int
) -> None:
    spec = InputSpec(size=(4, 4), classes=16, range="0-255")
    nodes = [
        make_node("Flatten", ["x"], ["flat"]),
        make_node("Cast", ["flat"], ["other"], to=dtype),
        make_node("Constant", [], ["shape"], value=weights("", np.int64([0, 16, 1, 1]))),
        make_node("Reshape", ["other", "shape"], ["y"]),
    ]
    for declared in (["n", 16, 1, 1], ["n", 16, None, None], None):
        model = model_of(
            nodes, [value("x", ["n", 1, 4, 4])], [value("y", declared, dtype)], opset=opset
        )
        pixels = pixels_of(spec)
        fused = fuse(model, spec)
        assert np.array_equal(run(fused, pixels), pixels.reshape(3, 16))


def two_outputs() -> Any:
    model = classifier()
    model.graph.node.append(make_node("Neg", ["y"], ["negative"]))
    model.graph.node.append(make_node("ArgMax", ["y"], ["label"], axis=1))
    model.graph.output.append(value("negative", ["n", 3]))
    model.graph.output.append(value("label", ["n", 1], TensorProto.INT64))
    return model


def test_one_of_several_outputs_is_chosen() -> None:
    spec = InputSpec(size=(4, 4), classes=3)
    pixels = pixels_of(spec)
    rows = {name: run(fuse(two_outputs(), spec, output=name), pixels) for name in ("y", "negative")}
    assert np.array_equal(rows["y"], -rows["negative"])
    assert rows["y"].any()
    for name in (None, "none", "label"):
        with pytest.raises(ValueError, match=r"outputs are y, negative, label|no tensor of scores"):
            fuse(two_outputs(), spec, output=name)


def renamed_model(names: dict[str, str]) -> Any:
    """A model with an If, whose branches take values from around it; values renamed."""
    outer = branch(make_node("Neg", ["flat"], ["dark"]), name="a")
    inner = branch(make_node("Add", ["flat", "half"], ["light"]), name="b")
    nodes = [
        make_node("Flatten", ["x"], ["flat"]),
        make_node("ReduceMax", ["flat"], ["most"], keepdims=0),
        make_node("Greater", ["most", "half"], ["bright"]),
        make_node("If", ["bright"], ["y"], then_branch=inner, else_branch=outer),
    ]
    model = model_of(
        nodes,
        [value("x", ["n", 1, 2, 2])],
        [value("y", ["n", 4])],
        initializer=[weights("half", np.float32(0.5))],
        value_info=[value("flat", ["n", 4])],
    )

    def rename(graph: Any) -> None:
        for group in (graph.input, graph.output, graph.value_info, graph.initializer):
            for each in group:
                each.name = names.get(each.name, each.name)
        for node in graph.node:
            node.input[:] = [names.get(each, each) for each in node.input]
            node.output[:] = [names.get(each, each) for each in node.output]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    rename(attribute.g)

    rename(model.graph)
    return model


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"x": "images", "y": "logits"},
        {"x": "logits", "y": "images"},
        {"half": "images", "flat": "logits"},
        {"most": "images", "dark": "logits"},
        {"x": "batchdigit0/in0", "y": "batchdigit0/out", "half": "batchdigit1/in1"},
        {"flat": "images", "half": "batchdigit0/images"},
    ],
)
def test_names_of_the_model_may_be_any(names: dict[str, str]) -> None:
    model = renamed_model(names)
    onnx.checker.check_model(model, full_check=True)
    spec = InputSpec(size=(2, 2), classes=4)
    fused = fuse(model, spec)
    onnx.checker.check_model(fused, full_check=True)
    assert [each.name for each in session(fused).get_outputs()] == ["logits"]
    dark, bright = (np.full((2, 1, 2, 2), number, np.uint8) for number in (51, 204))
    assert np.array_equal(run(fused, dark), np.full((2, 4), -np.float32(0.2)))
    assert np.array_equal(run(fused, bright), np.full((2, 4), np.float32(0.8) + np.float32(0.5)))


def test_functions_of_the_model_stay() -> None:
    model = with_functions(function("F", make_node("Neg", ["a"], ["b"])))
    model.graph.input[0].name = model.graph.node[0].input[0] = "images"
    spec = InputSpec(size=(2, 2), classes=4, range="0-255")
    pixels = pixels_of(spec)
    assert np.array_equal(run(fuse(model, spec), pixels), -pixels.reshape(3, 4).astype(np.float32))


def test_initializers_that_are_inputs_stay() -> None:
    model = classifier(ir_version=3, opset=8)
    model.graph.input.insert(0, value("w", [16, 3]))
    spec = InputSpec(size=(4, 4), classes=3)
    fused = fuse(model, spec)
    onnx.checker.check_model(fused, full_check=True)
    assert np.array_equal(
        run(fused, pixels_of(spec)), run(fuse(classifier(), spec), pixels_of(spec))
    )


def test_everything_else_stays_and_metadata_is_added() -> None:
    model = classifier()
    helper.set_model_props(model, {"kept": "1", "replaced": "2"})
    model.graph.doc_string = "mine"
    spec = InputSpec(size=(4, 4), classes=3)
    fused = onnx.ModelProto.FromString(fuse(model, spec, metadata={"replaced": "3", "added": "é"}))
    assert {each.key: each.value for each in fused.metadata_props} == {
        "kept": "1", "replaced": "3", "added": "é",
    }  # fmt: skip
    assert len(fused.metadata_props) == 3
    assert [node for node in fused.graph.node if "batchdigit" not in node.name][1:-1] == list(
        model.graph.node
    )[1:-1]
    for field in ("initializer", "name", "doc_string", "value_info"):
        assert getattr(fused.graph, field) == getattr(model.graph, field)
    for field in ("opset_import", "ir_version", "producer_name"):
        assert getattr(fused, field) == getattr(model, field)


def test_fused_file_is_one_that_is_accepted() -> None:
    spec = InputSpec(size=(4, 4), classes=3)
    found = parse_onnx(fuse(classifier(), spec))
    assert [each.text for each in found.inputs] == ["images uint8[batch, 1, 4, 4]"]
    assert [each.text for each in found.outputs] == ["logits float32[batch, 3]"]
    again = InputSpec(size=(4, 4), classes=3, range="0-255")
    pixels = pixels_of(spec)
    twice = with_pixels_as_input(
        fuse(classifier(), spec), again, output=None, scores="logits", metadata={}
    )
    assert np.array_equal(run(twice, pixels), run(fuse(classifier(), spec), pixels))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (["n", 4, 4, 1], "nchw"),
        (["n", 1, 4, 4], "nhwc"),
        (["n", 3, 4, 4], "nchw"),
        (["n", 1, 8, 8], "nchw"),
        (["n", 1, 4, 4], "nhw"),
        (["n", 16], "nhw"),
        (["n", 4, 4], "flat"),
        (["n", 15], "flat"),
    ],
)
def test_declaration_that_does_not_fit_is_an_error(shape: Any, layout: str) -> None:
    with pytest.raises(ValueError, match=r"it takes x float32\[n, .*, and not \[batch, "):
        fuse(classifier(shape), InputSpec(size=(4, 4), classes=3, layout=layout))


@pytest.mark.parametrize("shape", [[3], [], ["n", 3, 4, 4], ["n", 2, 3]])
def test_output_that_is_no_row_of_scores_is_an_error(shape: Any) -> None:
    model = classifier()
    model.graph.output[0].CopyFrom(value("y", shape))
    with pytest.raises(ValueError, match="no row of scores"):
        fuse(model, InputSpec(size=(4, 4), classes=3))


@pytest.mark.parametrize("opset", [1, 6])
def test_operators_that_are_too_old_are_an_error(opset: int) -> None:
    with pytest.raises(ValueError, match="older than version 7"):
        fuse(classifier(opset=opset), InputSpec(size=(4, 4), classes=3))


def test_file_that_is_not_accepted_is_an_error() -> None:
    model = classifier()
    model.graph.node[0].domain = "com.microsoft"
    with pytest.raises(ValueError, match="not of the ONNX standard"):
        fuse(model, InputSpec(size=(4, 4), classes=3))


def test_weights_are_the_same_bytes() -> None:
    model = classifier()
    (tensor,) = onnx.ModelProto.FromString(
        fuse(model, InputSpec(size=(4, 4), classes=3))
    ).graph.initializer
    assert np.array_equal(
        numpy_helper.to_array(tensor), numpy_helper.to_array(model.graph.initializer[0])
    )


def test_kind_of_scores_has_to_be_known() -> None:
    with pytest.raises(ValueError, match="no scores of the kind auto"):
        fuse(classifier(), InputSpec(size=(4, 4), classes=3), scores="auto")


def test_file_that_would_become_one_of_onnx_runtimes_own_format_is_an_error() -> None:
    model = classifier()
    model.producer_name = "ORTM"  # at the place that tells the format, once no entry is before it
    entry = b"".join(bytes_field(14, [*text_field(1, "key"), *text_field(2, "value")]))
    data = entry + model.SerializeToString()
    spec = InputSpec(size=(4, 4), classes=3)
    assert parse_onnx(data).producer == "ORTM"
    with pytest.raises(ValueError, match="ONNX Runtime's own format"):
        with_pixels_as_input(data, spec, output=None, scores="logits", metadata={"key": "new"})
    kept = with_pixels_as_input(data, spec, output=None, scores="logits", metadata={"other": ""})
    assert run(kept, pixels_of(spec)).shape == (3, 3)
