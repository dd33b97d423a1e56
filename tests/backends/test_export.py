"""A network of the user's own becomes ONNX that computes the same, whatever it returns."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from batchdigit import BatchdigitError, Job
from batchdigit.backends.export import OPSET, exported
from batchdigit.backends.own_model import own_model
from tests.support import odd_networks
from tests.support.own_models import own

SCORES = {
    "Linear": lambda output: output,
    "InATuple": lambda output: output[0],
    "InADictionary": lambda output: output["logits"],
    "Within": lambda output: output[1][0]["logits"],
    "OnePixel": lambda output: output.flatten(1),
    "LogSoftmaxAndFeatures": lambda output: output[0],
    "KeepsWhatItSaw": lambda output: output,
    "Sigmoid": lambda output: output,
}


@pytest.mark.parametrize("name", SCORES)
def test_graph_gives_the_scores_alone_for_any_batch(name: str) -> None:
    module = own(name)
    data = exported(own_model(None, Job(["x"], model=module)))
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [one.version for one in model.opset_import if not one.domain] == [OPSET]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["scores"]
    for count in (1, 7):
        pixels = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(count))
        with torch.inference_mode():
            expected = SCORES[name](module(pixels)).numpy()
        (found,) = session.run(None, {"input": pixels.numpy()})
        assert found.shape == (count, 10)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "declared", "shape"),
    [
        ("Side32", {"input_size": 32}, [1, 32, 32]),
        ("Colour", {"channels": 3}, [3, 28, 28]),
        ("ChannelsLast", {"layout": "nhwc"}, [28, 28, 1]),
        ("Rows", {"layout": "flat"}, [784]),
        ("Linear", {"layout": "nhw"}, [28, 28]),
    ],
)
def test_graph_takes_what_the_network_takes(
    name: str, declared: dict[str, int], shape: list[int]
) -> None:
    model = own_model(None, Job(["x"], model=getattr(odd_networks, name)(), **declared))
    (taken,) = onnx.load_from_string(exported(model)).graph.input
    first, *others = taken.type.tensor_type.shape.dim
    assert first.dim_param
    assert [size.dim_value for size in others] == shape


def test_network_is_left_as_it_was() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(784, 10))
    model = own_model(None, Job(["x"], model=module))
    pixels = torch.rand(3, 1, 28, 28)
    with torch.inference_mode():
        before = model.module(pixels)
        exported(model)
        assert not any(part.training for part in model.module.modules())
        assert torch.equal(model.module(pixels), before)


class Unwritable(odd_networks.Linear):
    """ONNX has nothing for what it computes with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = super().forward(x)
        return torch.linalg.eigvals(torch.diag_embed(scores.double())).real.float()


def test_what_onnx_has_no_operator_for_is_one_line() -> None:
    model = own_model(None, Job(["x"], model=Unwritable()))
    with pytest.raises(BatchdigitError, match="PyTorch cannot write it as ONNX: ") as caught:
        exported(model)
    assert len(str(caught.value).splitlines()) == 1
    assert ".safetensors" in caught.value.remedy
