"""The weights are found in a model file, wherever it keeps them."""

from pathlib import Path

import pytest
import torch

from batchdigit import CNN, load_checkpoint
from batchdigit.modelfiles.standins import stand_in
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.statedict import MAX_NESTING, Located, few, locate_weights, role_of, state_of
from tests.support import oracle
from tests.support.modelfiles import refusal, same_weights, saved

GOOD = CNN().state_dict()


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_weights_within_a_dictionary_are_found(tmp_path: Path, key: str) -> None:
    optimizer = torch.optim.Adam(oracle.CNN().parameters())
    content = {"epoch": 3, key: GOOD, "optimizer": optimizer.state_dict(), "loss": [0.1, None]}
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", content))
    assert same_weights(checkpoint.model, GOOD)
    assert checkpoint.kind == f"state dict under {key}"


def test_weights_two_dictionaries_deep_are_found(tmp_path: Path) -> None:
    content = {"model": {"name": "CNN"}, "net": {"state_dict": GOOD}}
    checkpoint = load_checkpoint(saved(tmp_path / "CNN.pt", content))
    assert checkpoint.kind == "state dict under net.state_dict"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in GOOD.items()}
    assert same_weights(load_checkpoint(saved(tmp_path / "CNN.pt", state)).model, GOOD)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a list"),
        ({"epoch": 3, 1: 2}, "a dictionary of epoch, 1"),
        ({}, "an empty dictionary"),
        (torch.zeros(3), "a single tensor"),
        ({1: torch.zeros(1)}, "a dictionary of 1"),
        (None, "a NoneType"),
        ({"model": GOOD, "net": GOOD}, "several models, under model, net"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, said: str) -> None:
    assert said in refusal(saved(tmp_path / "CNN.pt", content))


def test_weights_beside_other_things_are_refused_by_their_names(tmp_path: Path) -> None:
    state = CNN().state_dict()
    assert "other things (epoch)" in refusal(saved(tmp_path / "CNN.pt", {**state, "epoch": 3}))


def test_weights_nested_too_deep_are_not_looked_for(tmp_path: Path) -> None:
    content: dict[str, object] = {"net": GOOD}
    for _ in range(MAX_NESTING - 1):
        content = {"net": content}
    assert load_checkpoint(saved(tmp_path / "CNN.pt", content)).classes == 10
    assert "a dictionary of net" in refusal(saved(tmp_path / "CNN.pt", {"net": content}))


WEIGHT = StoredTensor("float32", (2, 3))


def module(**parts: object) -> object:
    """A pickled module as it is read, with submodules and parameters."""
    instance = stand_in("__main__.CNN")()
    tensors = {name: part for name, part in parts.items() if isinstance(part, StoredTensor)}
    inner = {name: part for name, part in parts.items() if name not in tensors}
    instance.__setstate__({"_modules": inner, "_parameters": tensors, "_buffers": {}})
    return instance


def test_state_of_a_module_has_the_names_that_pytorch_gives() -> None:
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "b": torch.nn.Linear(3, 2)})
    parts = {key: module(weight=WEIGHT, bias=WEIGHT) for key in ("a", "b")}
    assert list(state_of(Located(module(**parts)))) == list(model.state_dict())


def test_module_that_contains_itself_is_read_once() -> None:
    whole = module(weight=WEIGHT)
    whole.attributes["_modules"]["self"] = whole  # type: ignore[attr-defined]
    assert state_of(Located(whole)) == {"weight": WEIGHT}


def test_several_models_are_all_located() -> None:
    root = {"model": {"a": WEIGHT}, "net": {"state_dict": {"a": WEIGHT}}, "other": {"a": WEIGHT}}
    assert [weights.kind for weights in locate_weights(root)] == [
        "state dict under model",
        "state dict under net.state_dict",
    ]
    (whole,) = locate_weights({"net": module(weight=WEIGHT)})
    assert whole.kind == "whole model __main__.CNN under net"


@pytest.mark.parametrize(
    ("name", "class_name", "role"),
    [
        ("torch._utils._rebuild_tensor_v2", None, "tensor data"),
        ("torch.nn.modules.conv.Conv2d", None, "layer, read as data"),
        ("__main__.CNN", None, "model, read as data"),
        ("any.module.CNN", None, "model, read as data"),
        ("any.module.Net", None, ""),
        ("any.module.Net", "Net", "model, read as data"),
        ("any.module.Net", "any.module.Net", "model, read as data"),
        ("any.module.Net", "other.Net", ""),
        ("any.module.Net", "et", ""),
        ("builtins.eval", None, ""),
        ("posix.system", None, ""),
        ("torch.nn.modules.rnn.LSTM", None, ""),
        ("torch._utils._rebuild_parameter_with_state", None, ""),
    ],
)
def test_role_is_empty_for_what_is_refused(name: str, class_name: str | None, role: str) -> None:
    assert role_of(name, class_name) == role


def test_few_names_are_the_first_four() -> None:
    assert few("abcd") == "a, b, c, d"
    assert few("abcdef") == "a, b, c, d and 2 more"
    assert few([]) == ""
