"""The CNN's state dict in what a model file holds: finding it, and holding it against the CNN.

Everything here works on what a file declares, as :mod:`batchdigit.modelfiles.tensors` describes it.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.file import SAVE_STATE, ModelFile
from batchdigit.modelfiles.pickled import Instance
from batchdigit.modelfiles.scan import Contents
from batchdigit.modelfiles.tensors import TENSOR_DATA, StoredTensor
from batchdigit.network import (
    BATCHNORM,
    CONV,
    COUNTER,
    LINEAR,
    MAXPOOL,
    RELU,
    SEQUENTIAL,
    Layer,
    cnn,
)

MAX_CLASSES = 1000
MAX_NESTING = 4

NESTING_KEYS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel and torch.compile
WEIGHT_DTYPES = ("float32", "float16", "bfloat16", "float64")
LAST_WEIGHT = "fc.4.weight"

DATA_PARALLEL = "torch.nn.parallel.data_parallel.DataParallel"
LAYER_CLASSES = frozenset(
    {
        *(SEQUENTIAL, CONV, BATCHNORM, RELU, MAXPOOL, LINEAR),
        DATA_PARALLEL,
        "torch.nn.backends.thnn._get_thnn_function_backend",  # in models from before torch 1.2
    }
)
"""What a pickled CNN is made of, besides its own class and its weights. None is ever called."""

State = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Weights:
    """Where in a file the weights are: ``where`` leads to ``node``, a dictionary or a module."""

    node: Any
    where: tuple[str, ...] = ()

    @property
    def class_name(self) -> str:
        """The class of a whole model, else an empty string."""
        return self.node.global_name if isinstance(self.node, Instance) else ""

    @property
    def kind(self) -> str:
        """In words."""
        kind = f"whole model {self.class_name}" if self.class_name else "state dict"
        return kind + (f" under {'.'.join(self.where)}" if self.where else "")


def role_of(global_name: str, class_name: str | None) -> str:
    """What a pickled class or function is to this program; empty for what it does not accept."""
    if global_name in TENSOR_DATA:
        return "tensor data"
    if global_name in LAYER_CLASSES:
        return "layer, read as data"
    if global_name == class_name or global_name.rpartition(".")[2] in ("CNN", class_name):
        return "model, read as data"
    return ""


def find_weights(file: ModelFile, root: Any) -> Weights:
    """The state dict or the whole model in what a file holds; raises CheckpointError."""
    found = locate_weights(root)
    if len(found) == 1:
        return found[0]
    if found:
        places = [".".join(weights.where) for weights in found]
        raise file.refusal(f"holds several models, under {_few(places)}", "save one alone")
    raise file.refusal(
        f"holds no state dict, but {_describe(root)}",
        f"save it by {SAVE_STATE}, alone or under one of {', '.join(NESTING_KEYS)}",
    )


def locate_weights(node: Any, where: tuple[str, ...] = (), depth: int = 0) -> list[Weights]:
    """Every state dict and whole model in what a file holds."""
    if depth > MAX_NESTING:
        return []
    if _is_module(node):
        if node.global_name == DATA_PARALLEL:
            return locate_weights(_submodules(node).get("module"), where, depth + 1)
        return [Weights(node, where)]
    if _is_state_dict(node):
        return [Weights(node, where)]
    if not isinstance(node, Mapping):
        return []
    inner = [(node[key], (*where, key)) for key in NESTING_KEYS if key in node]
    return [weights for part, place in inner for weights in locate_weights(part, place, depth + 1)]


def _is_module(node: Any) -> bool:
    return isinstance(node, Instance) and isinstance(node.attributes.get("_modules"), dict)


def _submodules(module: Instance) -> dict[str, Any]:
    return dict(module.attributes["_modules"])


def _is_tensor(node: Any) -> bool:
    return isinstance(node, StoredTensor)


def _is_state_dict(node: Any) -> bool:
    return (
        isinstance(node, Mapping)
        and bool(node)
        and all(isinstance(key, str) and _is_tensor(value) for key, value in node.items())
    )


def _describe(node: Any) -> str:
    if isinstance(node, Mapping):
        others = [name for name, value in node.items() if not _is_tensor(value)]
        if 0 < len(others) < len(node):
            return f"tensors beside other things ({_few(others)})"
        return f"a dictionary of {_few(node)}" if node else "an empty dictionary"
    if isinstance(node, Instance):
        return f"an object of {node.global_name}"
    return "a single tensor" if _is_tensor(node) else f"a {type(node).__name__}"


def state_of(weights: Weights) -> dict[str, Any]:
    """The tensors of ``weights`` by name, without the prefixes that wrappers add."""
    whole = bool(weights.class_name)
    state = dict(_module_state(weights.node, set()) if whole else weights.node)
    for _ in range(MAX_NESTING):
        if (prefix := _common_prefix(state)) is None:
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _common_prefix(names: Collection[str]) -> str | None:
    for prefix in PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    return None


def _module_state(module: Any, seen: set[int], depth: int = 0) -> Iterable[tuple[str, Any]]:
    """What ``module.state_dict()`` would give; each module once, however it is nested."""
    if not _is_module(module) or id(module) in seen or depth > MAX_NESTING:
        return
    seen.add(id(module))
    for collection in ("_parameters", "_buffers"):
        tensors = module.attributes.get(collection)
        for name, tensor in tensors.items() if isinstance(tensors, Mapping) else ():
            if _is_tensor(tensor):
                yield str(name), tensor
    for name, submodule in _submodules(module).items():
        for inner, tensor in _module_state(submodule, seen, depth + 1):
            yield f"{name}.{inner}", tensor


def _module_classes(module: Any, depth: int = 0) -> Iterable[str]:
    """The classes of a module and of all within it."""
    if _is_module(module) and depth <= MAX_NESTING:
        yield module.global_name
        for submodule in _submodules(module).values():
            yield from _module_classes(submodule, depth + 1)


def check_globals(file: ModelFile, contents: Contents, class_name: str | None) -> None:
    """Raise CheckpointError unless all that the pickles call and do is known to be data."""
    foreign = [name for name in contents.globals if not role_of(name, class_name)]
    whole = next(iter(locate_weights(contents.root)), Weights(None))
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
            check_fit(file, Weights(state_of(whole)))
        except CheckpointError:
            remedy = "only the network that ARCHITECTURE.md describes can be used"
        layers = [name.rpartition(".")[2] for name in foreign if name != model]
        raise file.refusal(f"is a model of another architecture: it has {_few(layers)}", remedy)
    if foreign:
        raise file.refusal(
            f"would call {_few(foreign)}, which is not tensor data",
            f"if you trust its origin, save the weights alone there, by {SAVE_STATE}",
        )
    if contents.excess:
        raise file.refusal(contents.excess)


def check_fit(file: ModelFile, weights: Weights) -> State:
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
            f"{what} {_few(names)}"
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
    theirs, ours = _submodules(module), expected.layers
    place = name or "it"
    tensors = [module.attributes.get(kind) for kind in ("_parameters", "_buffers")]
    hidden = {"forward", *theirs}.union(*(names for names in tensors if isinstance(names, dict)))
    if own := hidden & module.attributes.keys():
        return f"{place} has an attribute of its own in place of {_few(sorted(own))}"
    if list(theirs) != list(ours):
        other = [key for key in [*theirs, *ours] if (key in theirs) != (key in ours)]
        return f"{place} has other layers ({_few(other or theirs)})"
    for key, value in expected.settings.items():
        found = module.attributes.get(key, value)  # older versions lack the later ones
        if _pair(found) != _pair(value):
            return f"{place} has {key} {_shown(found)} where {value} belongs"
    for key, layer in ours.items():
        inner = f"{name}.{key}".lstrip(".")
        if not _is_module(theirs[key]) or theirs[key].global_name != layer.kind:
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


def _few(names: Iterable[Any], most: int = 4) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
