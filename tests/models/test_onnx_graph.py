"""The ONNX file is what the onnx package expects, and holds the weights that PyTorch would fold."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, shape_inference
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from batchdigit import CheckpointError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import ModelFile, read_model_file
from batchdigit.models.onnx_graph import checked_onnx, onnx_model, read_onnx
from batchdigit.models.spec import MNIST
from batchdigit.models.weights import Weights, read_weights
from batchdigit.version import __version__
from tests.support import oracle


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(read_model_file(PACKAGED_WEIGHTS))


@pytest.fixture(scope="module")
def data(weights: Weights) -> bytes:
    return onnx_model(weights)


@pytest.fixture
def model(data: bytes) -> Any:
    return onnx.ModelProto.FromString(data)


def test_onnx_package_finds_nothing_wrong(model: Any) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.producer_name) == (8, "batchdigit")
    assert model.producer_version == __version__
    # By the table of versions that the onnx package carries.
    assert onnx.helper.find_min_ir_version_for(model.opset_import) == model.ir_version


def test_bytes_are_those_that_the_onnx_package_writes(model: Any, data: bytes) -> None:
    assert model.SerializeToString(deterministic=True) == data


def test_operators_are_the_networks(model: Any) -> None:
    convolution, pooled = ["Conv", "Relu"], ["Conv", "Relu", "MaxPool"]
    assert [node.op_type for node in model.graph.node] == [
        *convolution, *pooled, *convolution, *pooled,
        "Flatten", "Gemm", "Relu", "Gemm", "Relu", "Gemm",
    ]  # fmt: skip


def test_shapes_are_the_networks_for_any_number_of_images(model: Any) -> None:
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in [*inferred.input, *inferred.value_info, *inferred.output]
    }
    assert shapes["images"] == ["batch", 1, 28, 28]
    assert shapes["layer4.3"] == ["batch", 128, 4, 4]
    assert shapes["flat"] == ["batch", 2048]
    assert shapes["logits"] == ["batch", 10]


def test_weights_are_those_that_pytorch_folds(model: Any) -> None:
    theirs = oracle.CNN().eval()
    theirs.load_state_dict(torch.load(PACKAGED_WEIGHTS, weights_only=True))
    theirs.double()
    expected = {f"fc.{place}": theirs.fc[place] for place in (0, 2, 4)}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        convolution, batchnorm = getattr(theirs, name)[0], getattr(theirs, name)[1]
        assert isinstance(convolution, nn.Conv2d)
        expected[f"{name}.0"] = fuse_conv_bn_eval(convolution, batchnorm)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert len(found) == 2 * len(expected)
    for name, layer in expected.items():
        for part in ("weight", "bias"):
            array = getattr(layer, part).detach().numpy()
            assert np.array_equal(found[f"{name}.{part}"], array.astype(np.float32))


def test_file_is_read_again(weights: Weights, data: bytes) -> None:
    network = read_onnx(data)
    assert network is not None
    assert network.spec == MNIST
    assert (network.sha256, network.version) == (weights.sha256, __version__)
    assert np.array_equal(network.arrays["fc.4.weight"], weights.single["fc.4.weight"])


def set_classes(text: str) -> Callable[[Any], object]:
    return set_metadata("classes", text)


def set_metadata(name: str, text: str) -> Callable[[Any], object]:
    def change(model: Any) -> None:
        (entry,) = (entry for entry in model.metadata_props if entry.key == name)
        entry.value = text

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_classes("0"),
        set_classes("9"),
        set_classes("-10"),
        set_classes("1001"),
        set_classes("ten"),
        lambda model: model.metadata_props.pop(),
        lambda model: model.ClearField("graph"),
        lambda model: model.graph.node.pop(),
        lambda model: setattr(model.graph.node[0], "op_type", "Relu"),
        lambda model: setattr(model.graph.node[1], "name", "other"),
        lambda model: model.graph.initializer.pop(),
        lambda model: model.graph.initializer[0].dims.append(1),
        lambda model: model.graph.initializer[0].dims.append(2**63 - 1),
        lambda model: setattr(model.graph.initializer[0], "raw_data", b""),
        lambda model: setattr(model.opset_import[0], "version", 17),
        lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 32),
        lambda model: setattr(model, "doc_string", "mine"),
        set_metadata("source_sha256", "of a file"),
        set_metadata("source_sha256", "0" * 63),
        set_metadata("source_sha256", "\uff10" * 64),
        lambda model: setattr(model, "producer_version", "0" * 1_001),
        lambda model: setattr(model, "producer_version", "\x1b[31m"),
        lambda model: setattr(model, "producer_version", "é"),
    ],
)
def test_file_that_is_not_as_written_is_none(model: Any, change: Callable[[Any], object]) -> None:
    change(model)
    assert read_onnx(model.SerializeToString()) is None


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 1000, 100_000, -1])
def test_file_that_is_cut_is_none(data: bytes, keep: int) -> None:
    assert read_onnx(data[:keep]) is None
    assert read_onnx(data[:keep] + b"\xff" * 20) is None


def test_weight_that_is_not_finite_is_refused(model: Any) -> None:
    numbers = numpy_helper.to_array(model.graph.initializer[3]).copy()
    numbers[0] = np.nan
    model.graph.initializer[3].raw_data = numbers.tobytes()
    with pytest.raises(CheckpointError, match="not finite"):
        checked_onnx(ModelFile(PACKAGED_WEIGHTS, model.SerializeToString()))


def test_onnx_file_of_another_program_is_refused_with_a_remedy() -> None:
    with pytest.raises(CheckpointError, match="this program did not write.*model convert"):
        checked_onnx(ModelFile(PACKAGED_WEIGHTS, b"\x08\x0a\x12\x07pytorch"))
