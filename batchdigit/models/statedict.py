"""Finding the CNN's state dict in what a model file holds.

Everything here works on what a file declares, as :mod:`batchdigit.modelfiles.tensors` describes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from batchdigit.modelfiles.file import SAVE_STATE, ModelFile
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
        "torch.nn.backends.thnn._get_thnn_function_backend",  # in models from before torch 1.2
    }
)
"""What a pickled CNN is made of, besides its own class and its weights. None is ever called."""

State = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Located:
    """Where the weights are in a file: ``where`` leads to ``node``, a dictionary or a module."""

    node: Any
    where: tuple[str, ...] = ()

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


def locate_weights(node: Any, where: tuple[str, ...] = (), depth: int = 0) -> list[Located]:
    """Every state dict and whole model in what a file holds."""
    if depth > MAX_NESTING:
        return []
    if is_module(node):
        if node.global_name == DATA_PARALLEL:
            return locate_weights(submodules(node).get("module"), where, depth + 1)
        return [Located(node, where)]
    if _is_state_dict(node):
        return [Located(node, where)]
    if not isinstance(node, Mapping):
        return []
    inner = [(node[key], (*where, key)) for key in NESTING_KEYS if key in node]
    return [weights for part, place in inner for weights in locate_weights(part, place, depth + 1)]


def is_module(node: Any) -> bool:
    """Whether this is a pickled ``nn.Module``."""
    return isinstance(node, Instance) and isinstance(node.attributes.get("_modules"), dict)


def submodules(module: Instance) -> dict[str, Any]:
    """The modules that a module is made of, by name."""
    return dict(module.attributes["_modules"])


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
    """What ``module.state_dict()`` would give; each module once, even if it is nested in itself."""
    if not is_module(module) or id(module) in seen or depth > MAX_NESTING:
        return
    seen.add(id(module))
    for collection in ("_parameters", "_buffers"):
        tensors = module.attributes.get(collection)
        for name, tensor in tensors.items() if isinstance(tensors, Mapping) else ():
            if is_tensor(tensor):
                yield str(name), tensor
    for name, submodule in submodules(module).items():
        for inner, tensor in _module_state(submodule, seen, depth + 1):
            yield f"{name}.{inner}", tensor


def few(names: Iterable[Any]) -> str:
    """The first names, and how many more there are."""
    names = [str(name) for name in names]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
