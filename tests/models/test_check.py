"""What a model file declares is checked against the CNN."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from batchdigit import CNN, load_checkpoint
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.check import PACKAGED
from tests.support import oracle
from tests.support.modelfiles import refusal, saved
from tests.support.samples import Program

GOOD = CNN().state_dict()


def test_missing_and_unexpected_keys_are_named_with_the_nearest(tmp_path: Path) -> None:
    state = dict(GOOD)
    state["fc.5.weight"] = state.pop("fc.4.weight")
    message = refusal(saved(tmp_path / "CNN.pt", state))
    assert "missing fc.4.weight" in message
    assert "unexpected fc.5.weight" in message
    assert "nearest names fc.4.weight ~ fc.5.weight" in message


def test_names_are_not_guessed_by_order_and_shape(tmp_path: Path) -> None:
    state = {f"tensor{place}": tensor for place, tensor in enumerate(GOOD.values())}
    assert "holds another network than the CNN" in refusal(saved(tmp_path / "CNN.pt", state))


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    state = GOOD | {"fc.0.weight": torch.zeros(1024, 100)}
    assert "(1024, 100) instead of (1024, 2048)" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize("classes", [0, 1001])
def test_impossible_numbers_of_classes_are_refused(tmp_path: Path, classes: int) -> None:
    state = GOOD | {"fc.4.weight": torch.zeros(classes, 128), "fc.4.bias": torch.zeros(classes)}
    assert f"has {classes} classes" in refusal(saved(tmp_path / "CNN.pt", state))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64])
def test_tensors_that_hold_no_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD | {"fc.4.bias": torch.zeros(10, dtype=dtype)})
    assert "fc.4.bias is of type " in refusal(path)


def test_whole_model_of_other_layers_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.LSTM(784, 10))
    message = refusal(saved(tmp_path / "CNN.pt", model))
    assert "another architecture: it has Flatten, LSTM" in message


def test_part_of_a_model_is_refused(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path / "CNN.pt", oracle.CNN().fc))
    assert (
        "another network than the CNN: 0 Linear 2048→1024, 2 Linear 1024→128, 4 Linear" in message
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within torch 2.10's compiler
def test_compiled_whole_model_is_refused_and_its_remedy_works(tmp_path: Path) -> None:
    model = torch.compile(oracle.CNN())
    assert "would call torch._dynamo" in refusal(saved(tmp_path / "CNN.pt", model))
    assert load_checkpoint(saved(tmp_path / "CNN.pt", model.state_dict())).classes == 10  # type: ignore[attr-defined]


class Scorer(CNN):
    """The CNN with a part that holds no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.CrossEntropyLoss()


def test_whole_model_of_other_layers_whose_weights_fit_is_told_how_to_save_them(
    tmp_path: Path,
) -> None:
    model = Scorer()
    assert "its weights fit, so save them alone" in refusal(saved(tmp_path / "CNN.pt", model))
    assert load_checkpoint(saved(tmp_path / "state.pt", model.state_dict()))


def test_commands_to_compare_with_the_packaged_model_work(tmp_path: Path, program: Program) -> None:
    """They need nothing that is not installed with the program."""
    assert PACKAGED == PACKAGED_WEIGHTS
    path = saved(tmp_path / "a model.pt", nn.Linear(3, 2).state_dict())
    theirs, ours = re.findall("`batchdigit (.*?)`", refusal(path))
    inspected = [program(*shlex.split(command)) for command in (theirs, ours)]
    assert [done.returncode for done in inspected] == [65, 0]
    assert "layer1.0.weight" in inspected[1].stdout
    assert "layer1.0.weight " not in inspected[0].stdout
    other = refusal(saved(tmp_path / "other.pt", nn.Sequential(nn.LSTM(3, 3))))
    assert re.findall("`batchdigit (.*?)`", other) == [ours]
