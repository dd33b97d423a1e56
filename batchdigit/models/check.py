"""Checking what a model file declares against the CNN, before any number is taken from it."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.file import SAVE_STATE, ModelFile
from batchdigit.modelfiles.scan import Contents
from batchdigit.modelfiles.standins import Instance
from batchdigit.modelfiles.tensors import TENSOR_DATA
from batchdigit.models.network import BUFFERS, COUNTER, Layer, cnn
from batchdigit.models.spec import MNIST
from batchdigit.models.statedict import (
    DATA_PARALLEL,
    LAST_WEIGHT,
    MAX_CLASSES,
    MAX_NAMED,
    THNN_BACKEND,
    WEIGHT_DTYPES,
    Located,
    State,
    few,
    is_module,
    is_tensor,
    locate_weights,
    role_of,
    state_of,
    submodules,
    walk_modules,
)

HARMLESS = TENSOR_DATA | {THNN_BACKEND}
"""Classes and functions that an attribute of a module may come from."""
MAX_SHOWN = 100  # characters of a setting
PACKAGED = Path(__file__).parents[1] / "weights" / "CNN.pt"  # a file that fits, to compare with


def _classes_within(module: Any) -> Iterator[str]:
    return (inner.global_name for _, inner in walk_modules(module))


def check_globals(file: ModelFile, contents: Contents, class_name: str | None) -> None:
    """Raise CheckpointError unless everything that the pickles name is known to be data."""
    foreign = [name for name in contents.globals if not role_of(name, class_name)]
    whole = next(iter(locate_weights(contents.root)), Located(None))
    model = whole.class_name
    torch_nn = [name for name in foreign if name.startswith("torch.nn.")]
    if foreign == [model]:
        raise file.refusal(
            f"is a whole model of the class {model}, not CNN",
            f"if its layers are the CNN's, add --class-name {model}",
        )
    if foreign and model and {*foreign} <= {*torch_nn, *_classes_within(whole.node)}:
        remedy = f"its weights fit, so save them alone, by {SAVE_STATE}"
        try:
            check_fit(file, Located(state_of(whole)))
        except CheckpointError:
            remedy = f"use a model with the layers that {_inspect(PACKAGED)} lists"
        layers = [name.rpartition(".")[2] for name in foreign if name != model]
        raise file.refusal(f"is a model of another architecture: it has {few(layers)}", remedy)
    if foreign:
        raise file.refusal(
            f"would call {few(foreign)}, which is not tensor data",
            f"if you trust its origin, save the weights alone there, by {SAVE_STATE}",
        )
    if contents.excess:
        raise file.refusal(contents.excess)


def check_fit(file: ModelFile, weights: Located) -> State:
    """The tensors of ``weights`` by name.

    Raises CheckpointError unless their names, shapes and types, and the layers of a whole model,
    are the CNN's.
    """
    state = state_of(weights)
    last = state.get(LAST_WEIGHT)
    classes = last.shape[0] if last is not None and last.shape else MNIST.classes
    if not 1 <= classes <= MAX_CLASSES:
        raise file.refusal(f"has {classes} classes", f"use one that has 1 to {MAX_CLASSES} classes")
    expected = cnn(MNIST.with_classes(classes))
    problem = _misfit(state, expected.state_shapes())
    if not problem and weights.class_name:
        problem = _wrapped(weights) or next(_differences(weights.node, expected), "")
    if problem:
        raise file.refusal(
            f"does not fit the CNN: {problem}",
            f"compare {_inspect(file.path)} with {_inspect(PACKAGED)}, the packaged model",
        )
    return state


def _inspect(path: Path) -> str:
    return f"`batchdigit model inspect {shlex.quote(str(path))}`"


def _misfit(state: State, expected: Mapping[str, tuple[int, ...]]) -> str:
    """How names, shapes and types differ from those of the CNN, or nothing."""
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    extra = [name for name in state if name not in expected]
    if missing or extra:
        parts = [
            f"{what} {few(names)}"
            for what, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        likely = [name for name in extra[:1000] if len(name) < 100]  # more would take too long
        pairs = [(name, difflib.get_close_matches(name, likely, n=1)) for name in missing[:3]]
        if near := [f"{name} ~ {match[0]}" for name, match in pairs if match]:
            parts.append(f"nearest names {', '.join(near)}")
        return "; ".join(parts)
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            return f"{name} has the shape {tensor.shape} instead of {expected[name]}"
        if tensor.dtype not in WEIGHT_DTYPES and not name.endswith(COUNTER):
            return f"{name} is of type {tensor.dtype}, which holds no weights"
    return ""


def _differences(module: Instance, expected: Layer, name: str = "") -> Iterator[str]:
    """How the layers of a whole model compute differently from the CNN's; only the first is sure.

    A state dict cannot show that: another activation or stride leaves the shapes as they are.
    """
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
        problem = _own_behaviour(wrapper, Layer(DATA_PARALLEL))
        if not problem and wrapper.attributes.get("dim", 0) != 0:
            problem = "divides something else than batches"
        if problem:
            return f"its DataParallel {problem}"
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
