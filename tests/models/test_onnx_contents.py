"""What is in a graph counts at any depth: in subgraphs, in functions, in attributes."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node, make_tensor

from batchdigit.models.onnx_contents import MAX_DEPTH, OnnxError, read_tensor
from batchdigit.models.onnx_file import OnnxFile, parse_onnx
from batchdigit.models.onnx_messages import DATA_TYPES
from batchdigit.models.protobuf import Fields
from tests.support.onnx_models import (
    FLOAT,
    branch,
    choice,
    classifier,
    external,
    function,
    model_of,
    value,
    weights,
    with_functions,
)

NEG = make_node("Neg", ["a"], ["b"])
FOREIGN = make_node("Gelu", ["flat"], ["z"], domain="com.microsoft")
NUMBERS = weights("w", np.zeros(3, np.float32))


def parse(model: Any) -> OnnxFile:
    return parse_onnx(model.SerializeToString())


def refusal(model: Any) -> OnnxError:
    with pytest.raises(OnnxError) as caught:
        parse(model)
    return caught.value


def constant(tensor: Any) -> Any:
    return make_node("Constant", [], ["c"], value=tensor)


def sparse(values: Any = NUMBERS, size: int = 9) -> Any:
    return helper.make_sparse_tensor(values, weights("i", np.int64([0, 1, 2])), [size])


def nested(depth: int, inner: Any) -> Any:
    """A graph in which ``inner`` lies this many graphs deep."""
    graph = branch(inner)
    for number in range(depth - 1):
        node = make_node("If", ["bright"], [f"o{number}"], then_branch=graph, else_branch=graph)
        if number:  # graphs double with every level
            del node.attribute[1]
        graph = branch(node)
    return graph


def test_operators_of_subgraphs_are_counted() -> None:
    model = choice(branch(make_node("Neg", ["flat"], ["t"]), make_node("Abs", ["t"], ["u"])))
    onnx.checker.check_model(model)
    assert parse(model).operators == {
        "ReduceMax": 1, "Constant": 1, "Greater": 1, "Flatten": 1, "If": 1, "Neg": 2, "Abs": 1,
    }  # fmt: skip


def test_operators_of_a_loop_are_counted() -> None:
    body = helper.make_graph(
        [make_node("Neg", ["v"], ["w"]), make_node("Identity", ["go"], ["on"])],
        "body",
        [
            value("i", [], TensorProto.INT64),
            value("go", [], TensorProto.BOOL),
            value("v", None),
        ],
        [value("on", [], TensorProto.BOOL), value("w", None)],
    )
    model = model_of(
        [constant(weights("", np.int64(3))), make_node("Loop", ["c", "", "x"], ["y"], body=body)],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
    )
    onnx.checker.check_model(model)
    assert parse(model).operators == {"Constant": 1, "Loop": 1, "Neg": 1, "Identity": 1}


def test_weights_of_subgraphs_are_not_those_of_the_model() -> None:
    assert (
        parse(choice(branch(make_node("Neg", ["w"], ["t"]), initializer=[NUMBERS]))).initializers
        == {}
    )


def test_operators_of_functions_are_counted() -> None:
    model = with_functions(
        function("F", make_node("G", ["a"], ["t"], domain="mine"), make_node("Abs", ["t"], ["b"]),
                 opsets=("", "mine")),
        function("G", NEG),
    )  # fmt: skip
    onnx.checker.check_model(model)
    assert parse(model).operators == {"mine::F": 1, "mine::G": 1, "Flatten": 1, "Neg": 1, "Abs": 1}


def test_operators_of_machine_learning_are_of_the_standard() -> None:
    node = make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
    model = model_of([node], [value("x", ["n", 4])], [value("y", ["n", 4])], domains=["ai.onnx.ml"])
    assert parse(model).operators == {"ai.onnx.ml::Scaler": 1}
    del model.opset_import[1]
    assert "of which version its operators of ai.onnx.ml are" in str(refusal(model))


@pytest.mark.parametrize(
    "model",
    [
        choice(branch(FOREIGN)),
        choice(branch(NEG), branch(FOREIGN)),
        choice(nested(5, FOREIGN)),
        with_functions(function("F", make_node("Gelu", ["a"], ["b"], domain="com.microsoft"))),
        with_functions(
            function("F", NEG),
            function("unused", make_node("Gelu", ["a"], ["b"], domain="com.microsoft")),
        ),
        with_functions(
            function(
                "F",
                make_node("If", ["a"], ["b"], then_branch=branch(FOREIGN), else_branch=branch(NEG)),
            )
        ),
    ],
)
def test_operators_outside_the_standard_are_refused_wherever_they_are(model: Any) -> None:
    error = refusal(model)
    assert "uses the operator com.microsoft::Gelu, which is not" in error.problem
    assert "standard" in error.remedy


def test_function_that_the_model_does_not_have_is_an_operator_outside_the_standard() -> None:
    assert "mine::H, which is not" in str(refusal(with_functions(function("F", NEG), called="H")))
    overloaded = with_functions(function("F", NEG))
    overloaded.graph.node[0].overload = "other"
    assert "mine::F, which is not" in str(refusal(overloaded))
    overloaded.functions[0].overload = "other"
    assert parse(overloaded).operators["mine::F"] == 1


def call(name: str, times: int = 1) -> list[Any]:
    return [make_node(name, ["a"], [f"b{n}"], domain="mine") for n in range(times)]


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([function("F", *call("F"))], "calls itself"),
        ([function("F", *call("G")), function("G", *call("F"))], "calls itself"),
        ([function("F", NEG), function("A", *call("B")), function("B", *call("A"))], "itself"),
        ([function("F", NEG), function("F", NEG)], "holds the function mine::F twice"),
        ([function("F", NEG), function("Relu", NEG, domain="")], "Relu of the ONNX standard"),
        ([function("F", NEG), function("Relu", NEG, domain="ai.onnx")], "Relu of the ONNX"),
        (
            [function("F", *call("F1", 2))]
            + [function(f"F{n}", *call(f"F{n + 1}", 4)) for n in range(1, 12)]
            + [function("F12", NEG)],
            "too many operators",
        ),
        (
            [function("F", *call("F1"))]
            + [function(f"F{n}", *call(f"F{n + 1}")) for n in range(1, MAX_DEPTH)]
            + [function(f"F{MAX_DEPTH}", NEG)],
            "too many operators",
        ),
    ],
)
def test_functions_without_end_are_refused(functions: list[Any], message: str) -> None:
    assert message in str(refusal(with_functions(*functions)))


def test_functions_within_each_other_have_a_limit() -> None:
    chain = [function(f"F{n}", *call(f"F{n + 1}")) for n in range(1, MAX_DEPTH - 1)]
    functions = [function("F", *call("F1")), *chain, function(f"F{MAX_DEPTH - 1}", NEG)]
    assert parse(with_functions(*functions)).operators["Neg"] == 1


def test_graphs_within_each_other_have_a_limit() -> None:
    assert parse(choice(nested(MAX_DEPTH, NEG))).operators["Neg"] >= 2
    assert "graphs within graphs" in str(refusal(choice(nested(MAX_DEPTH + 1, NEG))))


def test_number_of_subgraphs_has_a_limit() -> None:
    many = make_node("Op", [], ["o"], graphs=[branch(NEG)] * 998)
    assert parse(choice(branch(many))).operators["Neg"] == 999
    more = make_node("Op", [], ["o"], graphs=[branch(NEG)] * 999)
    assert "graphs within graphs" in str(refusal(choice(branch(more))))


def test_number_of_operators_has_a_limit() -> None:
    nodes = [make_node(f"Op{number}", ["x"], ["y"]) for number in range(1_001)]
    assert "more than 1000 operators" in str(
        refusal(model_of(nodes, [value("x", ["n", 4])], [value("y", None)]))
    )


def with_initializer(tensor: Any) -> Any:
    model = classifier()
    model.graph.initializer.append(tensor)
    return model


def located(tensor: Any) -> Any:
    """External by its location alone, which comes without the name of a file."""
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def entered(tensor: Any) -> Any:
    """External by its entries alone."""
    external(tensor)
    tensor.ClearField("data_location")
    return tensor


@pytest.mark.parametrize("moved", [external, located, entered])
@pytest.mark.parametrize(
    "place",
    [
        with_initializer,
        lambda tensor: choice(branch(constant(tensor))),
        lambda tensor: choice(branch(NEG, initializer=[tensor])),
        lambda tensor: with_functions(function("F", constant(tensor))),
        lambda tensor: choice(branch(make_node("Op", [], ["o"], tensors=[tensor]))),
        lambda tensor: choice(
            branch(make_node("Constant", [], ["o"], sparse_value=sparse(tensor)))
        ),
        lambda tensor: choice(branch(NEG, sparse_initializer=[sparse(tensor)])),
    ],
)
def test_weights_in_another_file_are_refused_wherever_they_are(place: Any, moved: Any) -> None:
    tensor = weights("w2", np.zeros(3, np.float32))
    error = refusal(place(moved(tensor)))
    assert error.problem == "keeps its weights in another file"
    assert "save_as_external_data=False" in error.remedy


def test_weights_in_another_file_are_found_in_the_defaults_of_functions() -> None:
    of_mine = function("F", NEG)
    of_mine.attribute_proto.append(helper.make_attribute("t", external(weights("w2", np.zeros(3)))))
    assert "in another file" in str(refusal(with_functions(of_mine)))


@pytest.mark.parametrize("size", [9, 1 << 40])
def test_sparse_tensors_are_refused(size: int) -> None:
    for model in (
        classifier(sparse_initializer=[sparse(size=size)]),
        choice(branch(make_node("Constant", [], ["o"], sparse_value=sparse(size=size)))),
        choice(branch(make_node("Op", [], ["o"], sparse_tensors=[sparse(size=size)]))),
    ):
        assert "holds a sparse tensor" in str(refusal(model))


def tensor_of(tensor: Any) -> tuple[str, str, tuple[int, ...]]:
    name, stored = read_tensor(Fields(), memoryview(tensor.SerializeToString()))
    return name, stored.dtype, stored.shape


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (2, 0, 3), (1,) * 8])
@pytest.mark.parametrize("number", sorted(set(DATA_TYPES) & set(TensorProto.DataType.values())))
def test_tensors_of_every_type_are_read(number: int, shape: tuple[int, ...], raw: bool) -> None:
    kind = DATA_TYPES[number]
    count = int(np.prod(shape))
    if kind.name != "string" and raw:
        content = b"\1" * -(-count * kind.bits // 8)
        tensor = make_tensor("w", number, shape, content, raw=True)
    else:
        tensor = make_tensor(
            "w", number, shape, ["a"] * count if kind.name == "string" else [1] * count
        )
    assert tensor_of(tensor) == ("w", kind.name, shape)
    if count:
        tensor.dims[0:1] = [tensor.dims[0] + 4 if shape else 5]
        with pytest.raises(OnnxError, match="more or fewer numbers than its shape"):
            tensor_of(tensor)


def test_large_numbers_are_counted_as_one_each() -> None:
    numbers = [0, 127, 128, 2**62, -1, -(2**63)]
    assert tensor_of(make_tensor("w", TensorProto.INT64, [6], numbers)) == ("w", "int64", (6,))


def test_numbers_that_do_not_come_packed_are_counted() -> None:
    # The same fields, one number each: 0x25 is float_data of 32 bits, 0x38 int64_data.
    unpacked = b"\x08\x02\x10\x01" + b"\x25\0\0\0\0" * 2
    assert read_tensor(Fields(), memoryview(unpacked))[1].elements == 2
    unpacked = b"\x08\x02\x10\x07" + b"\x38\x80\x01" * 2
    assert read_tensor(Fields(), memoryview(unpacked))[1].elements == 2
    with pytest.raises(OnnxError, match="more or fewer"):
        read_tensor(Fields(), memoryview(unpacked + b"\x38\x01"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor.dims.append(2), "more or fewer numbers"),
        (lambda tensor: tensor.dims.append(1 << 62), "more or fewer numbers"),
        (lambda tensor: tensor.dims.append(-1), "impossible size"),
        (lambda tensor: tensor.dims.extend([1] * 8), "too many dimensions"),
        (lambda tensor: setattr(tensor, "raw_data", b""), "more or fewer numbers"),
        (lambda tensor: tensor.ClearField("raw_data"), "more or fewer numbers"),
        (lambda tensor: tensor.float_data.append(1), "more or fewer numbers"),
        (lambda tensor: setattr(tensor, "data_type", TensorProto.STRING), "more or fewer numbers"),
        (lambda tensor: setattr(tensor, "data_type", 0), "unknown type"),
        (lambda tensor: setattr(tensor, "data_type", 99), "unknown type"),
        (lambda tensor: setattr(tensor, "data_type", -1), "unknown type"),
        (lambda tensor: tensor.ClearField("data_type"), "unknown type"),
        (lambda tensor: setattr(tensor, "name", "w\n"), "cannot be printed"),
    ],
)
def test_tensor_that_is_not_as_declared_is_refused(change: Any, message: str) -> None:
    tensor = weights("w", np.zeros(3, np.float32))
    change(tensor)
    with pytest.raises(OnnxError, match=message):
        tensor_of(tensor)


def test_text_among_the_weights_is_refused_and_in_attributes_is_not() -> None:
    text = make_tensor("names", TensorProto.STRING, [2], ["a", "b"])
    assert "has text among its weights (names)" in str(refusal(with_initializer(text)))
    assert parse(choice(branch(constant(text)))).operators["Constant"] == 2


def test_number_of_tensors_has_a_limit() -> None:
    model = classifier()
    model.graph.initializer.extend(
        make_tensor(f"w{number}", FLOAT, [0], []) for number in range(10_000)
    )
    assert "more than 10000 tensors" in str(refusal(model))


def test_number_of_inputs_has_a_limit() -> None:
    model = classifier()
    model.graph.output.extend([model.graph.output[0]] * 10_000)
    assert "more than 10000 inputs or outputs" in str(refusal(model))


def test_node_without_an_operator_is_refused() -> None:
    model = classifier()
    model.graph.node[0].ClearField("op_type")
    assert "a node without an operator" in str(refusal(model))
