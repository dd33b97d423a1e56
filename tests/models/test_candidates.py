"""The weights are found in a model file, wherever it keeps them."""

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from batchdigit import CNN, inspect_model, load_checkpoint
from batchdigit.modelfiles.file import read_model_file
from batchdigit.modelfiles.standins import OtherKey, stand_in
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.candidates import MAX_CANDIDATES, MAX_DEPTH, closest, locate_weights
from batchdigit.models.statedict import state_of
from batchdigit.models.wanted import THE_CNN
from batchdigit.models.weights import Weights, read_weights
from tests.support import oracle
from tests.support.modelfiles import refusal, same_weights, saved, wanted_by

GOOD = CNN().state_dict()
OTHER = CNN().state_dict()


def prefixed(prefix: str, state: dict[str, Any] = GOOD) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "key",
    [
        *("state_dict", "model_state_dict", "model", "net", "weights", "network", "model_state"),
        *("params", "cnn", "classifier", "model_dict", "my own name", 7),
    ],
)
def test_weights_within_a_dictionary_are_found(tmp_path: Path, key: object) -> None:
    optimizer = torch.optim.Adam(oracle.CNN().parameters())
    content = {"epoch": 3, key: GOOD, "optimizer": optimizer.state_dict(), "loss": [0.1, None]}
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", content))
    assert same_weights(checkpoint.model, GOOD)
    assert checkpoint.kind == f"state dict under {key}"


def test_weights_two_dictionaries_deep_are_found(tmp_path: Path) -> None:
    content = {"model": {"name": "CNN"}, "net": {"state_dict": GOOD}}
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", content))
    assert checkpoint.kind == "state dict under net.state_dict"


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "_module."),
        *("model._orig_mod.module.", "a.b.c.d.e.f."),
    ],
)
@pytest.mark.parametrize("kind", ["new", "old", "safetensors"])
def test_prefix_of_all_names_is_taken_off(tmp_path: Path, prefix: str, kind: str) -> None:
    path, state = tmp_path / f"CNN.{kind}", prefixed(prefix)
    if kind == "safetensors":
        save_file(state, path)
    else:
        saved(path, state, _use_new_zipfile_serialization=kind == "new")
    assert same_weights(load_checkpoint(path).model, GOOD)


@pytest.mark.parametrize(
    "beside",
    [
        {"n_averaged": torch.tensor(3)},
        {"criterion.weight": torch.ones(10), "optimizer.0.exp_avg": torch.zeros(3)},
        {"models": torch.zeros(1), "module": torch.zeros(1), "modul": torch.zeros(1)},
    ],
)
def test_tensors_outside_of_the_prefix_are_left_alone(
    tmp_path: Path, beside: dict[str, torch.Tensor]
) -> None:
    path = saved(tmp_path / "CNN.pt", {**prefixed("module."), **beside})
    assert same_weights(load_checkpoint(path).model, GOOD)
    save_file({**prefixed("module."), **beside}, tmp_path / "CNN.safetensors")
    assert same_weights(load_checkpoint(tmp_path / "CNN.safetensors").model, GOOD)


@pytest.mark.parametrize("more", ["module.extra", "module.layer1.extra.weight"])
def test_tensors_under_the_prefix_belong_to_the_network(tmp_path: Path, more: str) -> None:
    path = saved(tmp_path / "CNN.pt", {**prefixed("module."), more: torch.zeros(1)})
    assert f"unexpected {more.removeprefix('module.')}" in refusal(path)


def test_counters_may_be_missing_under_a_prefix(tmp_path: Path) -> None:
    state = {n: t for n, t in prefixed("net.").items() if not n.endswith("num_batches_tracked")}
    assert load_checkpoint(saved(tmp_path / "CNN.pt", {"weights": state})).classes == 10


@pytest.mark.parametrize("whole", [True, False])
def test_averaged_model_is_the_model_in_it(tmp_path: Path, whole: bool) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(oracle.CNN())
    path = saved(tmp_path / "CNN.pt", averaged if whole else averaged.state_dict())
    expected = dict(averaged.module.state_dict())
    assert same_weights(load_checkpoint(path).model, expected)


def test_weights_with_other_things_in_a_tuple_are_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", (GOOD, {"epoch": 3}))
    assert load_checkpoint(path).kind == "state dict under 0"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a list"),
        ({"epoch": 3, 1: 2}, "a dictionary of epoch, 1"),
        ({}, "an empty dictionary"),
        (torch.zeros(3), "a single tensor"),
        ({1: torch.zeros(1)}, "a dictionary of 1"),
        (None, "a NoneType"),
        ({"model": GOOD, "net": OTHER}, "several models, under model, net"),
        (argparse.Namespace(model=3), "an object of argparse.Namespace"),
        ({"model": {**GOOD, "epoch": 3}}, "tensors beside other things (epoch) under model"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, said: str) -> None:
    assert said in refusal(saved(tmp_path / "CNN.pt", content))


def test_weights_beside_other_things_are_refused_by_their_names(tmp_path: Path) -> None:
    state = CNN().state_dict()
    assert "other things (epoch)" in refusal(saved(tmp_path / "CNN.pt", {**state, "epoch": 3}))


def test_weights_are_found_at_any_depth_that_people_nest_to(tmp_path: Path) -> None:
    content: dict[str, object] = {"net": GOOD}
    for _ in range(MAX_DEPTH - 1):
        content = {"net": content}
    assert load_checkpoint(saved(tmp_path / "CNN.pt", content)).classes == 10
    assert "a dictionary of net" in refusal(saved(tmp_path / "CNN.pt", {"net": content}))


def test_key_leads_to_one_of_several_models(tmp_path: Path) -> None:
    content = {"state_dict": GOOD, "ema": {"model": prefixed("module.", OTHER), "decay": 0.9}}
    path = saved(tmp_path / "CNN.pt", content)
    message = refusal(path)
    assert "holds several models, under state_dict, ema.model.module;" in message
    assert "--key state_dict" in message
    for key, state, name in (
        ("state_dict", GOOD, "state_dict"),
        *((key, OTHER, "ema.model.module") for key in ("ema.model.module", "ema.model", "ema")),
    ):
        checkpoint = load_checkpoint(path, key=key)
        assert same_weights(checkpoint.model, state)
        assert checkpoint.key == name
        assert checkpoint.identity == f"{checkpoint.sha256} {name}"
    for key in ("em", "ema.", "model", ""):
        assert "under the key" in refusal(path, key=key)
        assert "choose from state_dict, ema.model.module" in refusal(path, key=key)
    found = inspect_model(path)
    assert (found.usable, found.keys) == (False, ("state_dict", "ema.model.module"))
    assert inspect_model(path, key="ema").usable


def test_key_leads_to_one_of_several_whole_models(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", {"model": oracle.CNN(), "best": oracle.CNN()})
    assert "several models, under model, best" in refusal(path)
    assert load_checkpoint(path, key="best").kind.endswith("under best")


def test_prefixes_in_one_dictionary_are_several_models(tmp_path: Path) -> None:
    content = {"state_dict": {**prefixed("student."), **prefixed("teacher.", OTHER)}}
    path = saved(tmp_path / "CNN.pt", content)
    assert "under state_dict.student, state_dict.teacher" in refusal(path)
    assert same_weights(load_checkpoint(path, key="state_dict.teacher").model, OTHER)


def test_key_of_a_file_with_one_model_must_lead_there(tmp_path: Path) -> None:
    path = saved(tmp_path / "CNN.pt", {"model": GOOD})
    checkpoint = load_checkpoint(path, key="model")
    assert (checkpoint.key, checkpoint.identity) == ("", checkpoint.sha256)
    assert "no model under the key 'net'; choose from model" in refusal(path, key="net")
    plain = saved(tmp_path / "plain.pt", GOOD)
    assert "no model under the key 'net'; leave the key out" in refusal(plain, key="net")


def test_same_weights_in_several_places_are_no_conflict(tmp_path: Path) -> None:
    """The simplest is taken: a state dict before a whole model, a short way before a long one."""
    model = oracle.CNN()
    for content, kind in (
        ({"model": model, "state_dict": model.state_dict()}, "state dict under state_dict"),
        ({"best": {"model": GOOD}, "last": copy.deepcopy(GOOD)}, "state dict under last"),
        ({"model": model, "best": copy.deepcopy(model)}, "whole model tests.support.oracle.CNN"),
    ):
        checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", content))
        assert checkpoint.kind.startswith(kind)
        assert checkpoint.key == ""


def test_one_number_makes_weights_differ(tmp_path: Path) -> None:
    other = copy.deepcopy(GOOD)
    other["fc.4.bias"][9] += 1
    assert "several models" in refusal(saved(tmp_path / "CNN.pt", {"a": GOOD, "b": other}))
    counted = copy.deepcopy(GOOD)
    counted["layer1.1.num_batches_tracked"] += 1  # which no prediction depends on
    assert load_checkpoint(saved(tmp_path / "CNN.pt", {"a": GOOD, "b": counted})).key == ""


def test_whole_model_that_computes_otherwise_speaks_against_its_state_dict(tmp_path: Path) -> None:
    model = oracle.CNN()
    model.layer2[2] = torch.nn.LeakyReLU()
    path = saved(tmp_path / "CNN.pt", {"model": model, "state_dict": model.state_dict()})
    message = refusal(path)
    assert "layer2.2 is LeakyReLU instead of ReLU" in message
    assert "add --key state_dict" in message
    assert load_checkpoint(path, key="state_dict").classes == 10


def test_model_of_other_shapes_is_none_to_choose(tmp_path: Path) -> None:
    wide = GOOD | {"fc.2.weight": torch.zeros(64, 1024)}
    path = saved(tmp_path / "CNN.pt", {"student": wide, "model": GOOD})
    assert load_checkpoint(path).kind == "state dict under model"
    assert "fc.2.weight has the shape (64, 1024)" in refusal(path, key="student")


WEIGHT = StoredTensor("float32", (2, 3))
NAMES = list(GOOD)
STATE = dict.fromkeys(sorted(NAMES), WEIGHT)


def whole(name: str = "__main__.CNN") -> object:
    """A pickled module with all of the network's names, as it is read."""
    root: dict[str, Any] = {}
    for tensor in NAMES:
        *path, last = tensor.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = WEIGHT

    def made(parts: dict[str, Any]) -> object:
        module = stand_in(name)()
        tensors = {key: part for key, part in parts.items() if isinstance(part, StoredTensor)}
        inner = {key: made(part) for key, part in parts.items() if key not in tensors}
        module.__setstate__({"_modules": inner, "_parameters": tensors, "_buffers": {}})
        return module

    return made(root)


def test_several_models_are_all_located() -> None:
    root = {"deep": {"a": {"b": dict(STATE)}}, "model": dict(STATE), "net": whole(), "x": [STATE]}
    assert [weights.kind for weights in locate_weights(root, THE_CNN)] == [
        "state dict under model",
        "whole model __main__.CNN under net",
        "state dict under deep.a.b",
    ]


def test_dictionary_with_a_key_that_could_be_one_of_the_names_is_no_state_dict() -> None:
    """Text of a class of its own equals text: torch would take the tensor that comes last."""
    assert (
        locate_weights({**STATE, OtherKey(stand_in("numpy.str_")("fc.4.bias")): WEIGHT}, THE_CNN)
        == []
    )
    one, other = dict(STATE), dict(STATE)
    root = {"model": one, OtherKey(stand_in("numpy.str_")("model")): other}
    assert [weights.key for weights in locate_weights(root, THE_CNN)] == ["model", "<numpy.str_>"]


def test_dictionaries_in_each_other_are_searched_once() -> None:
    root: dict[str, Any] = {"model": dict(STATE)}
    root["self"] = root["model again"] = root
    root["list"] = {"up": root}
    assert [weights.key for weights in locate_weights(root, THE_CNN)] == ["model"]


def test_no_more_models_are_located_than_anybody_saves() -> None:
    root = {str(number): dict(STATE) for number in range(MAX_CANDIDATES + 10)}
    assert len(locate_weights(root, THE_CNN)) == MAX_CANDIDATES


def test_closest_is_what_has_most_of_the_names() -> None:
    some = dict(list(STATE.items())[:5])
    root = {"other": {"a": WEIGHT, "b": WEIGHT}, "net": {f"net.{n}": t for n, t in some.items()}}
    guess = closest(root, THE_CNN)
    assert guess is not None
    assert (guess.key, guess.prefix) == ("net.net", "net.")
    assert closest({"other": {"a": WEIGHT}}, THE_CNN).key == "other"  # type: ignore[union-attr]
    assert closest({"epoch": 3, "loss": WEIGHT}, THE_CNN) is None


class Bare(nn.Module):
    """Names of one part."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.rand(3, 2))
        self.register_buffer("centre", torch.rand(3))


class Mixed(nn.Module):
    """Names of two, three and four parts; one name is the end of another."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.block = nn.ModuleList([nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3)})])
        self.head = nn.ModuleDict({"fc": nn.Linear(4, 3), "norm": nn.BatchNorm1d(3)})


NETWORKS = {
    "names of one part": Bare,
    "names of two parts": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
    "names of different depths": Mixed,
    "a ResNet": lambda: resnet18(num_classes=10),
    "the names of the packaged network": oracle.CNN,
}
"""Networks of the user's own."""


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "module.", "net.", "model._orig_mod.module.", "fc.", "0."])
@pytest.mark.parametrize("way", [(), ("state_dict",), ("checkpoint", "ema", "model")])
def test_weights_of_an_own_network_are_found_under_any_prefix_and_way(
    name: str, prefix: str, way: tuple[str, ...]
) -> None:
    network = NETWORKS[name]()
    wanted = wanted_by(network)
    root: dict[str, Any] = {
        prefix + key: StoredTensor("float32", shape) for key, shape in wanted.shapes.items()
    }
    for key in reversed(way):
        root = {"epoch": 3, key: root}
    (found,) = locate_weights(root, wanted)
    assert (found.where, found.prefix) == (way, prefix)
    assert {key: tensor.shape for key, tensor in state_of(found).items()} == wanted.shapes


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_of_an_own_network_must_be_there(name: str) -> None:
    wanted = wanted_by(NETWORKS[name]())
    state = {f"net.{key}": StoredTensor("float32", shape) for key, shape in wanted.shapes.items()}
    for missing in state:
        rest = {key: tensor for key, tensor in state.items() if key != missing}
        found = locate_weights(rest, wanted)
        assert bool(found) == missing.endswith("num_batches_tracked")
    assert locate_weights(state | {"net.more": StoredTensor("float32", ())}, wanted) == []
    assert len(locate_weights(state | {"more": StoredTensor("float32", ())}, wanted)) == 1


def test_part_of_a_larger_network_is_found_where_a_part_is_wanted() -> None:
    """A body without its head, as it is taken to be trained further."""
    wanted = wanted_by(nn.Linear(4, 3))
    state = {
        key: StoredTensor("float32", shape) for key, shape in wanted_by(Mixed()).shapes.items()
    }
    found = locate_weights(state, wanted)
    assert [place.prefix for place in found] == ["fc.", "block.0.conv.", "head.fc."]


def own(path: Path, network: nn.Module, key: str | None = None) -> Weights:
    return read_weights(read_model_file(path), key=key, wanted=wanted_by(network))


def test_averaged_weights_of_an_own_network_are_chosen_by_their_key(tmp_path: Path) -> None:
    network, averaged = Mixed(), Mixed()
    content = {
        "model": network.state_dict(),
        "ema": {"decay": 0.9, "module": prefixed("module.", averaged.state_dict())},
    }
    path = saved(tmp_path / "net.pt", content)
    message = refusal(path, wanted=wanted_by(network))
    assert "holds several models, under model, ema.module.module;" in message
    assert "--key model" in message
    for key, state, name in (
        ("model", network, "model"),
        ("ema", averaged, "ema.module.module"),
        ("ema.module", averaged, "ema.module.module"),
    ):
        weights = own(path, network, key)
        assert weights.key == name
        for tensor, value in state.state_dict().items():
            assert np.array_equal(weights.stored[tensor], value.numpy())
    assert "no model under the key 'best'" in refusal(path, key="best", wanted=wanted_by(network))


def test_network_of_another_size_is_no_rival_of_an_own_one(tmp_path: Path) -> None:
    """A teacher of the same names, and more numbers."""
    network = nn.Sequential(nn.Linear(4, 3))
    content = {"teacher": nn.Sequential(nn.Linear(9, 3)).state_dict(), "net": network.state_dict()}
    assert own(saved(tmp_path / "net.pt", content), network).kind == "state dict under net"
