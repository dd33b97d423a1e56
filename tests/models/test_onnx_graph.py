"""The ONNX file is what the onnx package expects, and holds the weights that PyTorch would fold."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, shape_inference
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.onnx_file import parse_onnx
from batchdigit.models.onnx_graph import onnx_model
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


def test_file_is_taken_as_a_file_of_any_program(weights: Weights, data: bytes) -> None:
    found = parse_onnx(data)
    assert [(value.name, value.shape) for value in found.inputs] == [
        ("images", ("batch", *weights.spec.shape))
    ]
    assert [(value.name, value.shape) for value in found.outputs] == [
        ("logits", ("batch", weights.classes))
    ]
    assert found.producer == f"batchdigit {__version__}"
