"""ONNX models as other programs write them, made with the onnx package."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchdigit.modelfiles.file import ModelFile

FLOAT = TensorProto.FLOAT
BOOL = TensorProto.BOOL
PATH = Path("models/other.onnx")
Change = Callable[[Any], object]


def onnx_file(model: Any) -> ModelFile:
    return ModelFile(PATH, model if isinstance(model, bytes) else model.SerializeToString())


def value(name: str, shape: Sequence[int | str | None] | None, dtype: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def weights(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def model_of(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    opset: int = 17,
    domains: Sequence[str] = (),
    **parts: Any,
) -> Any:
    """A model. ``parts`` are those of the graph, and ``functions`` and ``ir_version``."""
    of_model = {"ir_version": parts.pop("ir_version", 8), "functions": parts.pop("functions", [])}
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), **parts)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=imports, producer_name="other", **of_model)


def classifier(
    shape: Sequence[int | str | None] | None = ("n", 1, 4, 4),
    *,
    dtype: int = FLOAT,
    opset: int = 17,
    **parts: Any,
) -> Any:
    """Flattens images of 16 numbers, and multiplies them by weights: scores of 3 classes."""
    matrix = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["float"], to=FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    return model_of(
        nodes,
        [value("x", shape, dtype)],
        [value("y", ["n", 3])],
        opset=opset,
        initializer=[weights("w", matrix)],
        **parts,
    )


def branch(*nodes: Any, name: str = "branch", **parts: Any) -> Any:
    """A graph of an If, which takes nothing and gives what the last node does."""
    (output,) = nodes[-1].output
    return helper.make_graph(list(nodes), name, [], [value(output, None)], **parts)


def choice(then: Any, otherwise: Any = None) -> Any:
    """A model with an If, which has one graph for more and one for less light."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["light"], keepdims=0),
        helper.make_node("Constant", [], ["half"], value=weights("", np.float32(0.5))),
        helper.make_node("Greater", ["light", "half"], ["bright"]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node(
            "If",
            ["bright"],
            ["y"],
            then_branch=then,
            else_branch=otherwise or branch(helper.make_node("Neg", ["flat"], ["dark"])),
        ),
    ]
    return model_of(nodes, [value("x", ["n", 1, 2, 2])], [value("y", ["n", 4])])


def function(name: str, *nodes: Any, domain: str = "mine", opsets: Sequence[str] = ("",)) -> Any:
    """A function of one input ``a`` and one output ``b``."""
    imports = [helper.make_opsetid(each, 17 if not each else 1) for each in opsets]
    return helper.make_function(domain, name, ["a"], ["b"], list(nodes), imports)


def with_functions(*functions: Any, called: str = "F", domain: str = "mine") -> Any:
    """A model that calls one of its functions."""
    nodes = [
        helper.make_node(called, ["x"], ["z"], domain=domain),
        helper.make_node("Flatten", ["z"], ["y"]),
    ]
    return model_of(
        nodes,
        [value("x", ["n", 1, 2, 2])],
        [value("y", ["n", 4])],
        functions=functions,
        domains=["mine"],
    )


def external(tensor: Any) -> Any:
    """The same tensor, its numbers in another file."""
    onnx.external_data_helper.set_external_data(tensor, location="weights.bin")
    tensor.ClearField("raw_data")
    return tensor
