"""What a state dict must hold is what PyTorch's module has."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from batchdigit.models.cnn import CNN
from batchdigit.models.wanted import THE_CNN, Wanted
from tests.support.modelfiles import wanted_by


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("classes", [1, 10, 47])
def test_packaged_network_is_wanted_with_any_number_of_classes(classes: int) -> None:
    wanted = THE_CNN.of_classes(classes)
    assert list(wanted.shapes.items()) == list(shapes(CNN(classes)).items())
    assert (wanted.title, wanted.is_own, wanted.types) == ("the CNN", False, ())
    assert wanted.layers is not None
    assert wanted.layers.state_shapes() == wanted.shapes


def test_names_are_as_long_as_the_longest() -> None:
    assert THE_CNN.parts == 3
    assert wanted_by(resnet18()).parts == 5  # layer1.0.downsample.0.weight
    assert wanted_by(nn.Linear(3, 2)).parts == 1


def test_what_counts_batches_need_not_be_there() -> None:
    wanted = wanted_by(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    assert wanted.names - wanted.required == {"1.num_batches_tracked"}
    assert len(wanted.required) == 6


def test_network_of_the_users_own_may_keep_whole_numbers() -> None:
    wanted = Wanted("the network Net", {"weight": (2, 3)})
    assert wanted.is_own
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        assert str(dtype).removeprefix("torch.") in wanted.types
