"""Where in a model file the network's weights are, whatever the file calls the place.

One rule: in any nesting of dictionaries, under one prefix, the names are exactly the network's.
What counts batches may be missing. Tensors outside the prefix, and all else, are left alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.file import SAVE_STATE, ModelFile
from batchdigit.modelfiles.standins import OtherKey
from batchdigit.models.statedict import (
    Located,
    State,
    few,
    is_module,
    is_tensor,
    tensor_in,
    unwrapped,
)
from batchdigit.models.wanted import Wanted

MAX_DEPTH = 40  # of dictionaries
MAX_CANDIDATES = 1_000
MAX_COMPARED = 4  # number by number

SameNumbers = Callable[[State, State], bool]
Fits = Callable[[State], bool]
Way = tuple[Any, Any]  # (the way to the dictionary or None, the key in it)


@dataclass(frozen=True)
class Chosen:
    """The weights to take.

    ``others`` are other places that hold the very same weights. ``key`` says which of several that
    differ was chosen; it is empty where there was no choice.
    """

    weights: Located
    others: tuple[Located, ...] = ()
    key: str = ""


def locate_weights(root: Any, wanted: Wanted) -> list[Located]:
    """Every place whose names are exactly those ``wanted``, those with the shortest ways first.

    At most MAX_CANDIDATES.
    """
    found: list[Located] = []
    for node, way in _places(root):
        if len(found) >= MAX_CANDIDATES:
            break
        if isinstance(node, Mapping):
            found += [Located(node, _names(way), prefix) for prefix in _prefixes(node, wanted)]
        else:
            inner, wrappers = unwrapped(node)
            if all(tensor_in(inner, name) is not None for name in wanted.required):
                found.append(Located(inner, _names(way), wrappers=wrappers))
    return found[:MAX_CANDIDATES]


def choose_weights(
    file: ModelFile,
    wanted: Wanted,
    found: Sequence[Located],
    key: str | None,
    *,
    fits: Fits,
    same_numbers: SameNumbers,
) -> Chosen:
    """The weights among those ``found`` that a run takes; there must be some.

    Those of other shapes (``fits``) don't count where others fit. Raises CheckpointError if ``key``
    leads to none of them, or if several differ and no ``key`` says which one is meant.
    """
    groups = _alike(found, wanted, same_numbers, fits)
    chosen = _under(groups, key)
    if not chosen:
        chosen = groups = _under([[weights] for weights in found], key)
    if not chosen:
        places = [weights.key for weights in found if weights.key]
        raise file.refusal(
            f"has no model under the key {key!r}",
            f"choose from {few(places)}, or leave the key out" if places else "leave the key out",
        )
    if len(chosen) > 1:
        places = [_simplest(group).key for group in chosen]
        raise file.refusal(
            f"holds several models, under {few(places)}",
            f"choose one by its key: --key {places[0]}",
        )
    (group,) = chosen
    weights = min((one for one in group if _leads(key, one)), key=_simplicity)
    others = tuple(one for one in group if one is not weights)
    return Chosen(weights, others, _simplest(group).key if len(groups) > 1 else "")


def closest(root: Any, wanted: Wanted) -> Located | None:
    """What most looks like the weights of some network where there are none of those wanted."""
    best, best_score = None, (0, 0)
    for node, way in _places(root):
        if isinstance(node, Mapping):
            counts = _known_tails(node, wanted)
            prefix, matches = counts.most_common(1)[0] if counts else ("", 0)
            place = Located(node, _names(way), prefix)
            tensors = sum(map(is_tensor, node.values()))
            if not matches and not (_is_named(node) and tensors == len(node)):
                continue
            score = (matches, tensors)
        else:
            inner, wrappers = unwrapped(node)
            place = Located(inner, _names(way), wrappers=wrappers)
            matches = sum(tensor_in(inner, name) is not None for name in wanted.names)
            score = (matches, len(wanted.names))
        if score > best_score:
            best, best_score = place, score
    return best


def nothing_found(file: ModelFile, root: Any, guess: Located | None) -> CheckpointError:
    """The error for a file without a state dict; ``guess`` is what comes closest to one."""
    node = guess.node if guess is not None else root
    under = f" under {'.'.join(guess.where)}" if guess is not None and guess.where else ""
    return file.refusal(
        f"holds no state dict, but {_describe(node)}{under}",
        f"save one by {SAVE_STATE}, alone or in a dictionary",
    )


def _places(root: Any) -> Iterator[tuple[Any, Way | None]]:
    """Every dictionary and module that dictionaries lead to, or a list that is all of the file.

    Each comes once, by the shortest way, but no more than MAX_CANDIDATES modules. What is within a
    module is part of it.
    """
    waiting: deque[tuple[Any, Way | None, int]] = deque([(root, None, 0)])
    seen = {id(root)}
    modules = 0
    while waiting:
        node, way, depth = waiting.popleft()
        modules += is_module(node)
        if isinstance(node, Mapping) or (is_module(node) and modules <= MAX_CANDIDATES):
            yield node, way
        if depth >= MAX_DEPTH:
            continue
        inner: Any = ()
        if isinstance(node, Mapping):
            inner = node.items()
        elif isinstance(node, list | tuple) and node is root:
            inner = enumerate(node)
        for key, value in inner:
            if (isinstance(value, Mapping) or is_module(value)) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((value, (way, key), depth + 1))


def _names(way: Way | None) -> tuple[str, ...]:
    names: list[str] = []
    while way is not None:
        way, key = way
        names.append(str(key))
    return tuple(names[::-1])


def _known_tails(node: Mapping[Any, Any], wanted: Wanted) -> Counter[str]:
    """For each prefix, how many of the network's names it stands before, each with a tensor."""
    counts: Counter[str] = Counter()
    for key, value in node.items():
        if isinstance(key, str) and is_tensor(value):
            parts = key.rsplit(".", wanted.parts)
            for start in range(max(0, len(parts) - wanted.parts), len(parts)):
                tail = ".".join(parts[start:])
                if tail in wanted.names:
                    counts[key[: len(key) - len(tail)]] += 1
    return counts


def _prefixes(node: Mapping[Any, Any], wanted: Wanted) -> Iterator[str]:
    """Those under which the names of a dictionary are exactly the network's."""
    counts = _known_tails(node, wanted)
    complete = [prefix for prefix, count in counts.items() if count >= len(wanted.required)]
    if not complete or any(isinstance(key, OtherKey) for key in node):  # one could equal a name
        return
    keys = sorted(key for key in node if isinstance(key, str))
    for prefix in complete:
        if prefix:  # all that begins with it stands together; "/" follows "."
            start, end = bisect_left(keys, prefix), bisect_left(keys, f"{prefix[:-1]}/")
        else:
            start, end = 0, len(node)
        alone = end - start == counts[prefix]
        if alone and all(is_tensor(node.get(f"{prefix}{name}")) for name in wanted.required):
            yield prefix


def _alike(
    found: Sequence[Located], wanted: Wanted, same_numbers: SameNumbers, fits: Fits
) -> list[list[Located]]:
    """Places that hold the very same weights together; those that don't fit only if none does."""
    groups: dict[Any, list[Located]] = {}
    for weights in found:
        groups.setdefault(_where_numbers_are(weights, wanted), []).append(weights)
    apart = list(groups.values())
    if not 1 < len(apart) <= MAX_COMPARED:
        return apart
    states = [_own_state(group[0], wanted) for group in apart]
    fitting = [place for place, state in enumerate(states) if fits(state)]
    if not fitting:
        return apart
    together: list[tuple[State, list[Located]]] = []
    for place in fitting:
        same = (group for state, group in together if same_numbers(state, states[place]))
        if (group := next(same, None)) is not None:
            group.extend(apart[place])
        else:
            together.append((states[place], apart[place]))
    return [group for _, group in together]


def _own_state(weights: Located, wanted: Wanted) -> dict[str, Any]:
    """The tensors that the network computes with."""
    names = sorted(wanted.required)
    if weights.class_name:
        return {name: tensor_in(weights.node, name) for name in names}
    return {name: weights.node[f"{weights.prefix}{name}"] for name in names}


def _where_numbers_are(weights: Located, wanted: Wanted) -> Any:
    return tuple(
        (tensor.storage, tensor.offset, tensor.strides, tensor.shape, tensor.dtype)
        for tensor in _own_state(weights, wanted).values()
    )


def _under(groups: list[list[Located]], key: str | None) -> list[list[Located]]:
    exact = [group for group in groups if any(one.key == key for one in group)]
    return exact or [group for group in groups if any(_leads(key, one) for one in group)]


def _leads(key: str | None, weights: Located) -> bool:
    """Whether a key leads to the weights, or to what they are in; no key leads everywhere."""
    return key is None or weights.key == key or weights.key.startswith(f"{key}.")


def _simplest(group: list[Located]) -> Located:
    return min(group, key=_simplicity)


def _simplicity(weights: Located) -> tuple[bool, int]:
    """A state dict before a whole model, then the shortest way."""
    return bool(weights.class_name), len(weights.where)


def _is_named(node: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in node)


def _describe(node: Any) -> str:
    if isinstance(node, Mapping):
        others = [name for name, value in node.items() if not is_tensor(value)]
        if 0 < len(others) < len(node):
            return f"tensors beside other things ({few(others)})"
        return f"a dictionary of {few(node)}" if node else "an empty dictionary"
    if name := getattr(node, "global_name", ""):
        return f"an object of {name}"
    return "a single tensor" if is_tensor(node) else f"a {type(node).__name__}"
