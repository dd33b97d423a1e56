"""The layers of a whole model, compared with the network's.

A state dict cannot show how a layer computes: another activation or stride leaves the shapes as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from batchdigit.modelfiles.standins import Instance
from batchdigit.modelfiles.tensors import TENSOR_DATA
from batchdigit.models.network import BUFFERS, COUNTER, Layer
from batchdigit.models.statedict import (
    MAX_NAMED,
    THNN_BACKEND,
    Located,
    few,
    is_module,
    is_tensor,
    submodules,
)

HARMLESS = TENSOR_DATA | {THNN_BACKEND}
"""Classes and functions that an attribute of a module may come from."""
MAX_SHOWN = 100  # characters of a setting


def difference(whole: Located, expected: Layer) -> str:
    """How a whole model computes differently from the network ``expected``, or nothing."""
    return _wrapped(whole) or next(_differences(whole.node, expected), "")


def _differences(module: Instance, expected: Layer, name: str = "") -> Iterator[str]:
    """How the layers of a whole model differ from the network; only the first is sure."""
    theirs, ours = submodules(module), expected.layers
    place = name or "it"
    if problem := _own_behaviour(module, expected):
        yield f"{place} {problem}"
    if list(theirs) != list(ours):
        other = [key for key in [*theirs, *ours] if (key in theirs) != (key in ours)]
        yield f"{place} has other layers ({few(other or theirs)})"
    if problem := _other_tensors(module, expected):
        yield f"{place} {problem}"
    for key, value in expected.settings.items():
        found = module.attributes.get(key, value)  # older versions lack the later ones
        if _pair(found) != _pair(value):
            yield f"{place} has {key} {_shown(found)} instead of {value}"
    for key, layer in ours.items():
        inner = f"{name}.{key}".lstrip(".")
        if not is_module(theirs[key]) or theirs[key].global_name != layer.kind:
            found = getattr(theirs[key], "global_name", "nothing").rpartition(".")[2]
            yield f"{inner} is {found} instead of {layer.kind.rpartition('.')[2]}"
        yield from _differences(theirs[key], layer, inner)


def _wrapped(weights: Located) -> str:
    """How the modules around a whole model do more than hand images on, or nothing."""
    for wrapper in weights.wrappers:
        problem = _own_behaviour(wrapper, Layer(wrapper.global_name))
        if not problem and wrapper.attributes.get("dim", 0) != 0:
            problem = "divides something else than batches"
        if problem:
            return f"its {wrapper.global_name.rpartition('.')[2]} {problem}"
    return ""


def _own_behaviour(module: Instance, expected: Layer) -> str:
    """How a module could compute otherwise than its class does, or nothing."""
    if module.args:
        return "was made with arguments, which other readers would use"
    hidden = {"forward", *submodules(module), *expected.tensors} & module.attributes.keys()
    if own := hidden | set(filter(partial(_acts, module), module.attributes)):
        return f"has an attribute of its own instead of {few(sorted(own, key=str))}"
    return ""


def _acts(module: Instance, name: Any) -> bool:
    """Whether an attribute of a module can take part in what it computes: a hook, a function."""
    value = module.attributes[name]
    if isinstance(value, Instance):
        return value.global_name not in HARMLESS
    return isinstance(value, type) or ("hook" in str(name) and bool(value) and value is not True)


def _other_tensors(module: Instance, expected: Layer) -> str:
    """How the tensors of a module are not where its layer looks for them, or nothing."""
    for kind, is_buffer in (("_parameters", False), ("_buffers", True)):
        held = module.attributes.get(kind)
        found = {name for name, tensor in held.items() if is_tensor(tensor)} if held else set()
        wanted = {name for name in expected.tensors if (name in BUFFERS) == is_buffer}
        if found - {COUNTER} != wanted - {COUNTER}:
            return f"has {few(sorted(map(str, found))) or 'nothing'} among its {kind.strip('_')}"
    return ""


def _pair(value: Any) -> Any:
    """A size as nn.MaxPool2d takes it: 2 is (2, 2)."""
    return (value, value) if type(value) is int else value


def _shown(value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    return str(value) if len(parts) <= MAX_NAMED and all(map(_is_short, parts)) else "another value"


def _is_short(value: Any) -> bool:
    """Whether a setting can be shown; Python refuses to print numbers of 5,000 digits."""
    if isinstance(value, str):
        return len(value) <= MAX_SHOWN
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)
