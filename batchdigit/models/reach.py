"""What leads to what in the tree that a pickle describes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from batchdigit.modelfiles.names import CONTAINERS
from batchdigit.modelfiles.standins import Instance, OtherKey, StateGiven
from batchdigit.modelfiles.tensors import StorageView, StoredTensor
from batchdigit.models.statedict import Located, state_of, walk_modules

COMPUTED = "a function that is computed"


def names_within(*nodes: Any) -> frozenset[str]:
    """The classes and functions that ``nodes``, and all that they lead to, come from."""
    return frozenset(_name_of(node) for node in _within(nodes, set()) if _is_named(node))


def taker_of(weights: Located, calls: Iterable[Instance], known: Collection[str] = ()) -> str:
    """What a pickle would call with the weights, so that it could change them; or nothing.

    It need not know of the weights as such: what shares their storage, or holds it, is enough.
    ``known`` are the classes whose objects may have them in their state.
    """
    storages = {tensor.storage for tensor in state_of(weights).values()}
    own = {id(weights.node), *(id(module) for _, module in walk_modules(weights.node))}
    seen: set[int] = set()
    for call in calls:
        if _is_harmless(call, known):
            continue
        name = call.global_name or getattr(call.args[0], "global_name", "")
        for node in _within(call.args, seen):
            shares = (isinstance(node, StoredTensor) and node.storage in storages) or (
                isinstance(node, StorageView) and node.key in storages
            )
            if shares or id(node) in own:
                return name or COMPUTED
    return ""


def _is_harmless(call: Instance, known: Collection[str]) -> bool:
    """Whether whatever is called keeps what it gets as it is."""
    if call.global_name:
        return call.global_name in CONTAINERS
    target = call.args[0]
    if not isinstance(target, Instance):
        return False
    if isinstance(call, StateGiven):
        # What is called with arguments can give an object of any class. A first state can give an
        # object a method that takes the second one; of two states the machine makes a tuple.
        made = target.global_name in known and not target.args
        return made and isinstance(target.state, dict)
    return target.global_name in CONTAINERS and target.state is None  # or it can name a method


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
