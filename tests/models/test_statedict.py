"""State dicts and whole models, as a file declares them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from batchdigit.modelfiles.file import read_model_file
from batchdigit.modelfiles.scan import scan
from batchdigit.modelfiles.standins import stand_in
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.statedict import Located, few, role_of, state_of, tensor_in, unwrapped
from tests.support.modelfiles import saved

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


def test_tensor_of_a_module_is_found_by_its_name_alone() -> None:
    whole = module(a=module(weight=WEIGHT))
    assert tensor_in(whole, "a.weight") is WEIGHT
    assert [tensor_in(whole, name) for name in ("a.bias", "b.weight", "a", "weight")] == [None] * 4
    assert tensor_in(None, "weight") is None


def test_what_only_hands_images_on_is_taken_off() -> None:
    inner = module(weight=WEIGHT)
    averaged = stand_in("torch.optim.swa_utils.AveragedModel")()
    averaged.__setstate__({"_modules": {"module": inner}})
    parallel = stand_in("torch.nn.parallel.data_parallel.DataParallel")()
    parallel.__setstate__({"_modules": {"module": averaged}})
    assert unwrapped(parallel) == (inner, (parallel, averaged))  # type: ignore[arg-type]
    assert unwrapped(inner) == (inner, ())  # type: ignore[arg-type]


def test_names_without_the_prefix_are_those_of_the_state() -> None:
    node = {"net.a": WEIGHT, "n_averaged": WEIGHT, 3: "three"}
    assert state_of(Located(node, ("model",), "net.")) == {"a": WEIGHT}
    assert Located(node, ("model",), "net.").key == "model.net"
    assert Located(node).key == ""


def test_module_that_contains_itself_is_read_once() -> None:
    whole = module(weight=WEIGHT)
    whole.attributes["_modules"]["self"] = whole  # type: ignore[attr-defined]
    assert state_of(Located(whole)) == {"weight": WEIGHT}


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


class Own(nn.Module):
    """Layers with two names, and a buffer that is in no state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.head = nn.Sequential(self.fc, nn.BatchNorm1d(2))
        self.register_buffer("grid", torch.zeros(4), persistent=False)
        self.register_buffer("order", torch.arange(2))


@pytest.mark.parametrize("protocol", [2, 4])
def test_state_of_a_whole_model_is_its_state_dict(tmp_path: Path, protocol: int) -> None:
    model = Own()
    path = saved(tmp_path / "net.pt", model, pickle_protocol=protocol)
    whole = Located(scan(read_model_file(path)).root)
    state = model.state_dict()
    found = state_of(whole, [*state, "grid.weight", "head.0.more"])
    assert found.keys() == state.keys()
    assert [found[name].shape for name in state] == [tuple(one.shape) for one in state.values()]
    assert found["head.0.weight"] is found["fc.weight"]
    assert "head.0.weight" not in state_of(whole)


def test_buffers_that_are_said_to_be_none_are_read_whatever_says_so() -> None:
    whole = module(weight=WEIGHT)
    whole.attributes["_buffers"] = {"a": WEIGHT, "b": WEIGHT}  # type: ignore[attr-defined]
    for names, left in (
        (["a"], ["weight", "b"]),
        (stand_in("builtins.set")(["a", 3]), ["weight", "b"]),
        (stand_in("builtins.set")(), ["weight", "a", "b"]),
        (stand_in("builtins.set")(5), ["weight", "a", "b"]),
        (None, ["weight", "a", "b"]),
        ("ab", ["weight", "a", "b"]),
    ):
        whole.attributes["_non_persistent_buffers_set"] = names  # type: ignore[attr-defined]
        assert list(state_of(Located(whole))) == left


def test_names_under_no_prefix_may_be_anything() -> None:
    assert state_of(Located({"a": WEIGHT, 3: WEIGHT})) == {"a": WEIGHT, 3: WEIGHT}
