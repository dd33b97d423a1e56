"""What leads to what in the tree that a pickle describes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from batchdigit.modelfiles.names import PLAIN_DATA
from batchdigit.modelfiles.standins import Instance, OtherKey
from batchdigit.modelfiles.tensors import TENSOR_DATA, StorageView, StoredTensor
from batchdigit.models.statedict import Located, state_of, walk_modules

COMPUTED = "a function that is computed"


def names_within(*nodes: Any) -> frozenset[str]:
    """The classes and functions that ``nodes``, and all that they lead to, come from."""
    return frozenset(_name_of(node) for node in _within(nodes, set()) if _is_named(node))


def taker_of(weights: Located, calls: Iterable[Instance]) -> str:
    """What a pickle would call with the weights, so that it could change them; or nothing.

    It need not know of the weights as such: what shares their storage, or holds it, is enough.
    """
    storages = {tensor.storage for tensor in state_of(weights).values()}
    own = {id(weights.node), *(id(module) for _, module in walk_modules(weights.node))}
    seen: set[int] = set()
    for call in calls:
        name = call.global_name or getattr(call.args[0], "global_name", "")
        if name in PLAIN_DATA or name in TENSOR_DATA:
            continue
        for node in _within(call.args, seen):
            shares = (isinstance(node, StoredTensor) and node.storage in storages) or (
                isinstance(node, StorageView) and node.key in storages
            )
            if shares or id(node) in own:
                return name or COMPUTED
    return ""


def _within(nodes: Iterable[Any], seen: set[int]) -> Iterator[Any]:
    """``nodes`` and all that they lead to, each once; none of those ``seen``, which grows."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, Instance):
            waiting += [*node.args, node.state]
        elif isinstance(node, Mapping):
            waiting += [key.key for key in node if isinstance(key, OtherKey)]
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node


def _is_named(node: Any) -> bool:
    return isinstance(node, Instance) or (isinstance(node, type) and issubclass(node, Instance))


def _name_of(node: Any) -> str:
    return node.global_name or COMPUTED
