"""State dicts and whole models as a model file declares them.

Everything here works on what a file declares, as :mod:`batchdigit.modelfiles.tensors` describes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchdigit.modelfiles.declaration import MAX_NORMALISED
from batchdigit.modelfiles.limits import MAX_TENSORS
from batchdigit.modelfiles.standins import Instance
from batchdigit.modelfiles.tensors import TENSOR_DATA, StoredTensor
from batchdigit.models.network import BATCHNORM, CONV, LINEAR, MAXPOOL, RELU, SEQUENTIAL

MAX_CLASSES = 1000
MAX_NESTING = 12  # of modules
MAX_NAMED = 4  # names in a message
MAX_LEFT_OUT = 100  # buffers of a module; thousands of modules may share one list

WEIGHT_DTYPES = ("float32", "float16", "bfloat16", "float64")
LAST_WEIGHT = "fc.4.weight"

THNN_BACKEND = "torch.nn.backends.thnn._get_thnn_function_backend"  # before torch 1.2
DATA_PARALLEL = "torch.nn.parallel.data_parallel.DataParallel"
AVERAGED = "torch.optim.swa_utils.AveragedModel"
WRAPPERS = (DATA_PARALLEL, AVERAGED)  # modules that only hand images on to their ``module``
LAYER_CLASSES = frozenset(
    {
        SEQUENTIAL,
        CONV,
        BATCHNORM,
        RELU,
        MAXPOOL,
        LINEAR,
        *WRAPPERS,
        THNN_BACKEND,
    }
)
"""What a pickled CNN is made of, besides its own class and its weights. None is ever called."""

State = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Located:
    """Where the weights are in a file: ``where`` leads to ``node``, a dictionary or a module.

    The names in a dictionary begin with ``prefix``; what else is in it is no part of the model.
    ``wrappers`` are the modules around a module that only hand images on (``nn.DataParallel``).
    """

    node: Any
    where: tuple[str, ...] = ()
    prefix: str = ""
    wrappers: tuple[Instance, ...] = ()

    @property
    def class_name(self) -> str:
        """The class of a whole model, or an empty string."""
        return self.node.global_name if isinstance(self.node, Instance) else ""

    @property
    def modules(self) -> tuple[Any, ...]:
        """A whole model and what is around it; nothing for a state dict."""
        return (*self.wrappers, self.node) if self.class_name else ()

    @property
    def key(self) -> str:
        """The way to it in words, with dots (``ema.model``); empty for the whole file."""
        return ".".join([*self.where, *self.prefix.split(".")[:-1]])

    @property
    def kind(self) -> str:
        """What was found, in words."""
        kind = f"whole model {self.class_name}" if self.class_name else "state dict"
        return kind + (f" under {'.'.join(self.where)}" if self.where else "")


def role_of(global_name: str, class_name: str | None) -> str:
    """What a class or function that weights are made of is to this program.

    Empty for one that no weights are made of.
    """
    if global_name in TENSOR_DATA:
        return "tensor data"
    if global_name in LAYER_CLASSES:
        return "layer, read as data"
    if global_name == class_name or global_name.rpartition(".")[2] in ("CNN", class_name):
        return "model, read as data"
    return ""


def is_module(node: Any) -> bool:
    """Whether this is a pickled ``nn.Module``."""
    return isinstance(node, Instance) and isinstance(node.attributes.get("_modules"), dict)


def submodules(module: Instance) -> Mapping[str, Any]:
    """The modules that a module is made of, by name."""
    modules: Mapping[str, Any] = module.attributes["_modules"]
    return modules


def unwrapped(module: Instance) -> tuple[Any, tuple[Instance, ...]]:
    """What is within the modules that only hand images on, and those modules."""
    wrappers: list[Instance] = []
    node: Any = module
    while is_module(node) and node.global_name in WRAPPERS and len(wrappers) < MAX_NESTING:
        wrappers.append(node)
        node = submodules(node).get("module")
    return node, tuple(wrappers)


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


def state_of(weights: Located, names: Iterable[str] = ()) -> dict[str, Any]:
    """The tensors of ``weights`` by name, without the prefix.

    Of a whole model, one that two of its modules share has one name, and those of ``names`` that
    lead to it, too.
    """
    if weights.class_name:
        # Modules nested in each other give names of any length, so no more than any network has.
        state = dict(itertools.islice(_module_state(weights.node), MAX_TENSORS))
        more = {name: tensor_in(weights.node, name) for name in names if name not in state}
        return state | {name: tensor for name, tensor in more.items() if tensor is not None}
    prefix = weights.prefix
    if not prefix:
        return dict(weights.node)
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.node.items()
        if isinstance(name, str) and name.startswith(prefix)
    }


def tensor_in(module: Any, name: str) -> Any:
    """What a whole model has under a name of its state dict (``layer1.0.weight``), or None."""
    *path, last = name.split(".")
    for part in path:
        if not is_module(module):
            return None
        module = submodules(module).get(part)
    if is_module(module):
        for collection in ("_parameters", "_buffers"):
            tensors = module.attributes.get(collection)
            if isinstance(tensors, Mapping) and is_tensor(tensors.get(last)):
                return tensors[last]
    return None


def _module_state(module: Instance) -> Iterator[tuple[str, StoredTensor]]:
    """What ``module.state_dict()`` would give; what two modules share comes once."""
    seen: set[int] = set()
    for start, inner in walk_modules(module):
        for collection in ("_parameters", "_buffers"):
            tensors = inner.attributes.get(collection)
            if isinstance(tensors, Mapping) and id(tensors) not in seen:
                seen.add(id(tensors))
                left_out = _not_persistent(inner) if collection == "_buffers" else frozenset()
                for name, tensor in tensors.items():
                    if is_tensor(tensor) and name not in left_out:
                        yield f"{start}{name}", tensor


def _not_persistent(module: Instance) -> frozenset[str]:
    """The buffers that are not part of a module's state dict; of a list without end, the first."""
    names = module.attributes.get("_non_persistent_buffers_set")
    if isinstance(names, Instance) and names.args:  # a set, by a pickle of protocols 0 to 3
        names = names.args[0]
    if not isinstance(names, list | tuple):
        return frozenset()
    return frozenset(name for name in names[:MAX_LEFT_OUT] if isinstance(name, str))


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
