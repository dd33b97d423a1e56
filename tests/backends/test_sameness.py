"""Two models are the same if they give digits the same labels and probabilities."""

from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit import BatchdigitError, Job
from batchdigit.backends.opening import Opened, open_model
from batchdigit.backends.sameness import TOLERANCE, largest_difference
from batchdigit.job import PACKAGED_WEIGHTS
from tests.support.modelfiles import saved, trained_on
from tests.support.odd_networks import Linear
from tests.support.own_models import own

TARGET = Path("target.pt")


def opened(model: Any, **options: Any) -> Opened:
    return open_model(Job(["x"], model=model, device="cpu", **options))


def shifted(by: float) -> Linear:
    """A network whose scores of ones are larger by that."""
    network: Linear = own("Linear")
    with torch.no_grad():
        network.fc.bias[1] += by
    return network


def test_network_is_the_same_as_itself() -> None:
    one = opened(own("Linear"))
    assert largest_difference(one, one, TARGET) == 0
    assert largest_difference(one, opened(own("Softmax")), TARGET) <= TOLERANCE


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_same_weights_are_the_same_by_either_backend(backend: str) -> None:
    one = opened(PACKAGED_WEIGHTS, backend="torch")
    assert largest_difference(one, opened(PACKAGED_WEIGHTS, backend=backend), TARGET) <= TOLERANCE


def test_declarations_that_come_to_the_same_are_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", trained_on(1.0, -1.0))
    one = opened(path, mean=1.0, std=-1.0)
    other = opened(path, expects="dark-on-light")
    assert largest_difference(one, other, TARGET) <= TOLERANCE


def test_another_probability_is_told() -> None:
    one = opened(own("Linear"))
    with pytest.raises(BatchdigitError, match=r"target\.pt would differ from Linear by up to"):
        largest_difference(one, opened(shifted(0.5)), TARGET)


def test_another_label_is_told() -> None:
    with pytest.raises(BatchdigitError, match=r"target\.pt would give other labels"):
        largest_difference(opened(own("Linear")), opened(shifted(100)), TARGET)


def test_other_classes_are_told() -> None:
    with pytest.raises(BatchdigitError, match=r"target\.pt would have other classes"):
        largest_difference(opened(own("Linear")), opened(Linear(classes=11)), TARGET)
