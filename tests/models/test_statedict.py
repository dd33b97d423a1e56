"""Finding the weights in what a model file holds, wherever it keeps them."""

from pathlib import Path

import pytest
import torch

from batchdigit import CNN, load_checkpoint
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
    ids=str,
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, said: str) -> None:
    assert said in refusal(saved(tmp_path / "CNN.pt", content))


def test_weights_beside_other_things_are_refused_by_their_names(tmp_path: Path) -> None:
    state = CNN().state_dict()
    assert "other things (epoch)" in refusal(saved(tmp_path / "CNN.pt", {**state, "epoch": 3}))
