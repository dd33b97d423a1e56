"""What a model file declares is checked against the CNN, or the user's own network."""

import re
import shlex
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from batchdigit import CNN, load_checkpoint
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.check import PACKAGED
from batchdigit.models.wanted import THE_CNN, Wanted
from batchdigit.models.weights import Weights, read_weights
from tests.support import oracle
from tests.support.modelfiles import refusal, saved, wanted_by
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
    state = GOOD | {"fc.5.weight": torch.zeros(1)}
    path = saved(tmp_path / "a model.pt", state)
    theirs, ours = re.findall("`batchdigit (.*?)`", refusal(path))
    inspected = [program(*shlex.split(command)) for command in (theirs, ours)]
    assert [done.returncode for done in inspected] == [65, 0]
    assert "fc.5.weight" in inspected[0].stdout
    assert "fc.5.weight" not in inspected[1].stdout


@pytest.mark.parametrize(
    "content", [nn.Linear(3, 2).state_dict(), nn.Sequential(nn.LSTM(3, 3)), oracle.CNN().fc]
)
def test_another_network_may_be_the_users_own(tmp_path: Path, content: object) -> None:
    assert "--network FILE.py:CLASS" in refusal(saved(tmp_path / "net.pt", content))


def test_name_that_is_no_text_is_named_like_any_other(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", {**GOOD, 3: torch.zeros(1)})
    assert "does not fit the CNN: unexpected 3" in refusal(path)
    missing = {name: tensor for name, tensor in GOOD.items() if name != "fc.4.bias"}
    path = saved(tmp_path / "other.pt", {**missing, 3: torch.zeros(1)})
    assert "missing fc.4.bias; unexpected 3" in refusal(path)


class Net(nn.Module):
    """A network as people write them, with names of different depths."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.SiLU())
        self.fc = nn.Linear(width, 10)
        self.register_buffer("order", torch.arange(10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(images).mean((2, 3)))[:, self.order]  # type: ignore[no-any-return]


WANTED = wanted_by(Net())
NET = Net().state_dict()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fc.bias": None}, "missing fc.bias"),
        ({"more": torch.zeros(1)}, "unexpected more"),
        ({"fc.bias": None, "fc.bais": torch.zeros(10)}, "nearest names fc.bias ~ fc.bais"),
        ({"fc.weight": torch.zeros(10, 9)}, "(10, 9) instead of (10, 8)"),
        ({"order": torch.zeros(9)}, "order has the shape (9,) instead of (10,)"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_does_not_fit_an_own_network_is_one_line_with_the_way_out(
    tmp_path: Path, change: dict[str, torch.Tensor | None], said: str, prefix: str
) -> None:
    state = {prefix + name: tensor for name, tensor in (NET | change).items() if tensor is not None}
    path = saved(tmp_path / "net.pt", {"model": state})
    message = refusal(path, wanted=WANTED)
    assert "does not fit the network Net: " in message
    assert said in message
    assert "--network-args" in message
    assert f"`batchdigit model inspect {path}` lists" in message


def test_all_shapes_of_another_width_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path / "net.pt", Net(16).state_dict()), wanted=WANTED)
    assert "block.0.weight has the shape (16, 1, 3, 3) instead of (8, 1, 3, 3)" in message
    assert "fc.weight" not in message
    assert "and 3 more" in message
    assert "--network-args" in message


@pytest.mark.parametrize("content", [GOOD, nn.Sequential(nn.LSTM(3, 3)).state_dict(), {"a": NET}])
def test_weights_of_another_class_are_told_by_their_layers(
    tmp_path: Path, content: dict[str, object]
) -> None:
    wanted = wanted_by(nn.Sequential(*(nn.Linear(3, 3) for _ in range(9))))
    message = refusal(saved(tmp_path / "net.pt", content), wanted=wanted)
    assert "holds another network than the network Sequential: " in message
    assert "; missing " in message
    assert "--network-args" in message


@pytest.mark.parametrize("content", [{"epoch": 3}, [], torch.zeros(3), {"model": {**NET, "a": 1}}])
def test_file_without_weights_has_none_for_an_own_network(tmp_path: Path, content: object) -> None:
    assert "holds no state dict" in refusal(saved(tmp_path / "net.pt", content), wanted=WANTED)


def read(path: Path, wanted: Wanted = WANTED) -> Weights:
    return read_weights(read_model_file(path), wanted=wanted)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_whole_model_of_any_class_is_weights_for_an_own_network(
    tmp_path: Path, new: bool, wrapped: bool
) -> None:
    model = Net()
    content = {"model": nn.DataParallel(model) if wrapped else model, "epoch": 3}
    path = saved(tmp_path / "net.pt", content, _use_new_zipfile_serialization=new)
    found = read(path)
    assert found.kind == f"whole model {__name__}.Net under model"
    assert found.unknown == ()
    for name, tensor in model.state_dict().items():
        assert np.array_equal(found.stored[name], tensor.numpy())
    assert "is a model of another architecture" in refusal(path)


class Odd(Net):
    """What modules of other people have besides layers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.rand(4), persistent=False)
        self.steps = nn.Sequential(self.block, self.fc)  # the same layers by other names
        self.act = nn.functional.relu
        self.settings = Namespace(width=8, names={"a", "b"})
        self.absent = None
        self.register_module("nothing", None)
        self.extra = nn.ParameterList([torch.rand(2), torch.rand(2)])


def test_whole_model_holds_what_its_state_dict_holds(tmp_path: Path) -> None:
    model = Odd()
    path = saved(tmp_path / "net.pt", model)
    found = read(path, wanted_by(model))
    state = model.state_dict()
    assert found.stored.keys() == state.keys()
    assert all(np.array_equal(found.stored[name], tensor) for name, tensor in state.items())


def test_deep_network_is_found_in_each_form(tmp_path: Path) -> None:
    model = resnet18(num_classes=10)
    for content in (model, model.state_dict(), {"a": {"b": nn.DataParallel(model).state_dict()}}):
        found = read(saved(tmp_path / "net.pt", content), wanted_by(model))
        assert found.stored.keys() == model.state_dict().keys()


def test_whole_model_beside_its_state_dict_need_not_have_the_same_layers(tmp_path: Path) -> None:
    """The user's class computes, whatever the class in the file did."""
    model = Net()
    path = saved(tmp_path / "net.pt", {"model": model, "state_dict": model.state_dict()})
    assert read(path).kind == "state dict under state_dict"


def test_unknown_things_beside_the_weights_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pt", {"model": NET, "history": Unknown()})
    assert read(path).unknown == (f"{__name__}.Unknown",)


class Unknown:
    """Something that a training keeps."""


def test_other_file_that_the_packaged_network_wants_is_unchanged(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", GOOD)
    assert read(path, THE_CNN).classes == 10
    assert read(path, wanted_by(oracle.CNN())).stored.keys() == GOOD.keys()
