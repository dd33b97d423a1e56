"""Finding the CNN's state dict in what a model file holds.

Everything here works on what a file declares, as :mod:`batchdigit.modelfiles.tensors` describes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchdigit.modelfiles.file import SAVE_STATE, ModelFile
from batchdigit.modelfiles.limits import MAX_TENSORS
from batchdigit.modelfiles.normalisation import MAX_NORMALISED
from batchdigit.modelfiles.standins import Instance
from batchdigit.modelfiles.tensors import TENSOR_DATA, StoredTensor
from batchdigit.models.network import BATCHNORM, CONV, LINEAR, MAXPOOL, RELU, SEQUENTIAL

MAX_CLASSES = 1000
MAX_NESTING = 4
MAX_NAMED = 4  # names in a message

NESTING_KEYS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel and torch.compile
WEIGHT_DTYPES = ("float32", "float16", "bfloat16", "float64")
LAST_WEIGHT = "fc.4.weight"

THNN_BACKEND = "torch.nn.backends.thnn._get_thnn_function_backend"  # before torch 1.2
DATA_PARALLEL = "torch.nn.parallel.data_parallel.DataParallel"
LAYER_CLASSES = frozenset(
    {
        SEQUENTIAL,
        CONV,
        BATCHNORM,
        RELU,
        MAXPOOL,
        LINEAR,
        DATA_PARALLEL,
        THNN_BACKEND,
    }
)
"""What a pickled CNN is made of, besides its own class and its weights. None is ever called."""

State = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Located:
    """Where the weights are in a file: ``where`` leads to ``node``, a dictionary or a module.

    ``wrappers`` are the modules around it that only hand images on (``nn.DataParallel``).
    """

    node: Any
    where: tuple[str, ...] = ()
    wrappers: tuple[Instance, ...] = ()

    @property
    def class_name(self) -> str:
        """The class of a whole model, or an empty string."""
        return self.node.global_name if isinstance(self.node, Instance) else ""

    @property
    def kind(self) -> str:
        """What was found, in words."""
        kind = f"whole model {self.class_name}" if self.class_name else "state dict"
        return kind + (f" under {'.'.join(self.where)}" if self.where else "")


def role_of(global_name: str, class_name: str | None) -> str:
    """What a pickled class or function is to this program; empty for one that it refuses."""
    if global_name in TENSOR_DATA:
        return "tensor data"
    if global_name in LAYER_CLASSES:
        return "layer, read as data"
    if global_name == class_name or global_name.rpartition(".")[2] in ("CNN", class_name):
        return "model, read as data"
    return ""


def find_weights(file: ModelFile, root: Any) -> Located:
    """The state dict or the whole model in what a file holds; raises CheckpointError."""
    found = locate_weights(root)
    if len(found) == 1:
        return found[0]
    if found:
        places = [".".join(weights.where) for weights in found]
        raise file.refusal(f"holds several models, under {few(places)}", "save only one of them")
    raise file.refusal(
        f"holds no state dict, but {_describe(root)}",
        f"save one by {SAVE_STATE}, alone or under one of {', '.join(NESTING_KEYS)}",
    )


def locate_weights(root: Any) -> list[Located]:
    """Every place in what a file holds that has a state dict or a whole model."""
    return list(_locate(Located(root), 0, {}))


def _locate(place: Located, depth: int, known: dict[int, bool]) -> Iterator[Located]:
    """``known`` says of what was seen whether it is weights: a dictionary may hold itself."""
    node = place.node
    if depth > MAX_NESTING:
        return
    if id(node) in known:
        if known[id(node)]:
            yield place
        return
    parallel = is_module(node) and node.global_name == DATA_PARALLEL
    known[id(node)] = not parallel and (is_module(node) or _is_state_dict(node))
    if known[id(node)]:
        yield place
    elif parallel:
        inner = submodules(node).get("module")
        yield from _locate(Located(inner, place.where, (*place.wrappers, node)), depth + 1, known)
    elif isinstance(node, Mapping):
        for key in NESTING_KEYS:
            if key in node:
                yield from _locate(Located(node[key], (*place.where, key)), depth + 1, known)


def is_module(node: Any) -> bool:
    """Whether this is a pickled ``nn.Module``."""
    return isinstance(node, Instance) and isinstance(node.attributes.get("_modules"), dict)


def submodules(module: Instance) -> Mapping[str, Any]:
    """The modules that a module is made of, by name."""
    modules: Mapping[str, Any] = module.attributes["_modules"]
    return modules


def walk_modules(module: Any) -> Iterator[tuple[str, Instance]]:
    """A module and all within it, each with the start of its tensors' names (``layer1.0.``).

    Each comes once, however often it is nested in others or in itself.
    """
    seen: set[int] = set()
    pending: list[tuple[tuple[str, ...], Any]] = [((), module)]
    while pending:
        path, node = pending.pop()
        if not is_module(node) or len(path) > MAX_NESTING:
            continue
        names = submodules(node)
        if id(node) in seen or id(names) in seen:
            continue
        seen |= {id(node), id(names)}
        yield "".join(f"{name}." for name in path), node
        pending += [((*path, str(name)), inner) for name, inner in names.items()][::-1]


def is_tensor(node: Any) -> bool:
    """Whether this is a tensor that the file declares."""
    return isinstance(node, StoredTensor)


def _is_state_dict(node: Any) -> bool:
    return (
        isinstance(node, Mapping)
        and bool(node)
        and all(isinstance(key, str) and is_tensor(value) for key, value in node.items())
    )


def _describe(node: Any) -> str:
    if isinstance(node, Mapping):
        others = [name for name, value in node.items() if not is_tensor(value)]
        if 0 < len(others) < len(node):
            return f"tensors beside other things ({few(others)})"
        return f"a dictionary of {few(node)}" if node else "an empty dictionary"
    if isinstance(node, Instance):
        return f"an object of {node.global_name}"
    return "a single tensor" if is_tensor(node) else f"a {type(node).__name__}"


def state_of(weights: Located) -> dict[str, Any]:
    """The tensors of ``weights`` by name, without the prefixes that wrappers add."""
    whole = bool(weights.class_name)
    # Modules nested in each other give names of any length, so no more than any network has.
    tensors = itertools.islice(_module_state(weights.node), MAX_TENSORS) if whole else weights.node
    state = dict(tensors)
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


def _module_state(module: Instance) -> Iterator[tuple[str, StoredTensor]]:
    """What ``module.state_dict()`` would give; what two modules share comes once."""
    seen: set[int] = set()
    for start, inner in walk_modules(module):
        for collection in ("_parameters", "_buffers"):
            tensors = inner.attributes.get(collection)
            if isinstance(tensors, Mapping) and id(tensors) not in seen:
                seen.add(id(tensors))
                for name, tensor in tensors.items():
                    if is_tensor(tensor):
                        yield f"{start}{name}", tensor


def carried_normalisation(weights: Located) -> tuple[float, float] | None:
    """The mean and the deviation that a whole model holds as plain attributes, if it holds both."""
    if not isinstance(weights.node, Instance):
        return None
    mean, std = (_number(weights.node.attributes.get(name)) for name in ("mean", "std"))
    return None if mean is None or not std else (mean, std)


def _number(value: Any) -> float | None:
    """A finite number, alone or in a list of one; None for anything else."""
    if isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value
    if type(value) not in (int, float) or not abs(value) <= MAX_NORMALISED:
        return None
    return float(value)


def few(names: Iterable[Any]) -> str:
    """The first names, and how many more there are."""
    names = [str(name) for name in names]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
