"""Holding what a model file declares against the CNN, before any number is taken from it."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.file import SAVE_STATE, ModelFile
from batchdigit.modelfiles.pickled import Instance
from batchdigit.modelfiles.scan import Contents
from batchdigit.models.network import (
    COUNTER,
    Layer,
    cnn,
)
from batchdigit.models.statedict import (
    LAST_WEIGHT,
    MAX_CLASSES,
    MAX_NESTING,
    WEIGHT_DTYPES,
    Located,
    State,
    few,
    is_module,
    locate_weights,
    role_of,
    state_of,
    submodules,
)


def _module_classes(module: Any, depth: int = 0) -> Iterable[str]:
    """The classes of a module and of all within it."""
    if is_module(module) and depth <= MAX_NESTING:
        yield module.global_name
        for submodule in submodules(module).values():
            yield from _module_classes(submodule, depth + 1)


def check_globals(file: ModelFile, contents: Contents, class_name: str | None) -> None:
    """Raise CheckpointError unless all that the pickles call and do is known to be data."""
    foreign = [name for name in contents.globals if not role_of(name, class_name)]
    whole = next(iter(locate_weights(contents.root)), Located(None))
    model = whole.class_name
    torch_nn = [name for name in foreign if name.startswith("torch.nn.")]
    if foreign == [model]:
        raise file.refusal(
            f"is a whole model of the class {model}, not CNN",
            f"if its layers are the CNN's, add --class-name {model}",
        )
    if foreign and model and {*foreign} <= {*torch_nn, *_module_classes(whole.node)}:
        remedy = f"its weights fit, so save them alone, by {SAVE_STATE}"
        try:
            check_fit(file, Located(state_of(whole)))
        except CheckpointError:
            remedy = "only the network that ARCHITECTURE.md describes can be used"
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
    """Hold names, shapes, types and layers against the CNN's."""
    state = state_of(weights)
    last = state.get(LAST_WEIGHT)
    classes = last.shape[0] if last is not None and last.shape else 10
    if not 1 <= classes <= MAX_CLASSES:
        raise file.refusal(
            f"has {classes} classes", f"the CNN is used with 1 to {MAX_CLASSES} classes"
        )
    expected = cnn(classes)
    problem = _misfit(state, expected.state_shapes())
    if not problem and weights.class_name:
        problem = _other_layer(weights.node, expected)
    if problem:
        inspect = f"batchdigit model inspect {shlex.quote(str(file.path))}"
        raise file.refusal(
            f"does not fit the CNN: {problem}", f"compare `{inspect}` with ARCHITECTURE.md"
        )
    return state


def _misfit(state: State, expected: Mapping[str, tuple[int, ...]]) -> str:
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    extra = [name for name in state if name not in expected]
    if missing or extra:
        parts = [
            f"{what} {few(names)}"
            for what, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        likely = [name for name in extra[:1000] if len(name) < 100]  # the search takes its time
        pairs = [(name, difflib.get_close_matches(name, likely, n=1)) for name in missing[:3]]
        if near := [f"{name} ~ {match[0]}" for name, match in pairs if match]:
            parts.append(f"nearest names {', '.join(near)}")
        return "; ".join(parts)
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            return f"{name} has the shape {tensor.shape} where {expected[name]} belongs"
        if tensor.dtype not in WEIGHT_DTYPES and not name.endswith(COUNTER):
            return f"{name} is of {tensor.dtype}, which holds no weights"
    return ""


def _other_layer(module: Instance, expected: Layer, name: str = "") -> str:
    """How the layers of a whole model compute otherwise than the CNN's, or nothing.

    A state dict cannot tell: another activation or stride leaves the shapes as they are.
    """
    theirs, ours = submodules(module), expected.layers
    place = name or "it"
    tensors = [module.attributes.get(kind) for kind in ("_parameters", "_buffers")]
    hidden = {"forward", *theirs}.union(*(names for names in tensors if isinstance(names, dict)))
    if own := hidden & module.attributes.keys():
        return f"{place} has an attribute of its own in place of {few(sorted(own))}"
    if list(theirs) != list(ours):
        other = [key for key in [*theirs, *ours] if (key in theirs) != (key in ours)]
        return f"{place} has other layers ({few(other or theirs)})"
    for key, value in expected.settings.items():
        found = module.attributes.get(key, value)  # older versions lack the later ones
        if _pair(found) != _pair(value):
            return f"{place} has {key} {_shown(found)} where {value} belongs"
    for key, layer in ours.items():
        inner = f"{name}.{key}".lstrip(".")
        if not is_module(theirs[key]) or theirs[key].global_name != layer.kind:
            found = getattr(theirs[key], "global_name", "nothing").rpartition(".")[2]
            return f"{inner} is {found} where {layer.kind.rpartition('.')[2]} belongs"
        if problem := _other_layer(theirs[key], layer, inner):
            return problem
    return ""


def _pair(value: Any) -> Any:
    """A size as nn.MaxPool2d takes it: 2 is (2, 2)."""
    return (value, value) if type(value) is int else value


def _shown(value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    plain = all(isinstance(part, int | float | str) for part in parts)
    return str(value) if plain else "another value"
