import numpy as np

from batchdigit.bench.measurement import Parity, Setting
from batchdigit.bench.measuring.parity import parity_of
from batchdigit.bench.measuring.probes import Outcomes
from tests.support.measurements import GPU, ONNX, TORCH


def outcomes(labels: list[int], probs: list[float]) -> Outcomes:
    return Outcomes(np.array(labels), np.array(probs, np.float32), "cpu", {}, {})


def engines(*settings: Setting) -> dict[str, Setting]:
    return {setting.engine: setting for setting in settings}


EXACT = outcomes([1, 2, 3, -1], [0.5, 0.75, 1.0, 0.0])


def test_other_labels_and_errors_are_flips_and_the_rest_is_compared_by_probability() -> None:
    found = {TORCH.engine: EXACT, GPU.engine: outcomes([1, 9, 3, 4], [0.25, 0.0, 0.875, 0.5])}
    parity = parity_of(GPU.engine, engines(GPU, TORCH), found)
    assert parity == Parity(TORCH.engine, images=4, flips=2, difference=0.25)


def test_reference_is_pytorch_in_single_precision_on_the_cpu() -> None:
    found = dict.fromkeys((GPU.engine, TORCH.engine, ONNX.engine), EXACT)
    for name in found:
        parity = parity_of(name, engines(GPU, ONNX, TORCH), found)
        assert parity == Parity(TORCH.engine, images=4, flips=0, difference=0.0)


def test_without_that_reference_the_nearest_is_taken() -> None:
    exact = Setting("torch", "cuda", "fp32")
    parity = parity_of(GPU.engine, engines(GPU, exact), {GPU.engine: EXACT, exact.engine: EXACT})
    assert parity is not None
    assert parity.reference == exact.engine


def test_engine_that_does_not_work_has_no_parity_and_is_no_reference() -> None:
    found = {ONNX.engine: EXACT}
    assert parity_of(TORCH.engine, engines(TORCH, ONNX), found) is None
    parity = parity_of(ONNX.engine, engines(TORCH, ONNX), found)
    assert parity is not None
    assert parity.reference == ONNX.engine
