"""Checking what a model file declares against a network, before any number is taken from it."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.file import SAVE_ANEW, SAVE_STATE, ModelFile
from batchdigit.modelfiles.names import GETATTR, is_data, runs_things
from batchdigit.modelfiles.scan import Contents
from batchdigit.modelfiles.tensors import PROTOCOL_0
from batchdigit.models.candidates import (
    Chosen,
    SameNumbers,
    choose_weights,
    closest,
    locate_weights,
    nothing_found,
)
from batchdigit.models.network import COUNTER
from batchdigit.models.reach import names_within, taker_of
from batchdigit.models.spec import MNIST
from batchdigit.models.statedict import (
    LAST_WEIGHT,
    MAX_CLASSES,
    WEIGHT_DTYPES,
    Located,
    State,
    few,
    is_tensor,
    role_of,
    state_of,
    walk_modules,
)
from batchdigit.models.wanted import THE_CNN, Wanted

PACKAGED = Path(__file__).parents[1] / "weights" / "CNN.pt"  # a file that fits, to compare with
OWN = "if it is your own network, say where its code is: --network FILE.py:CLASS"
MODEL = "part of the model, read as data"
BESIDE, UNKNOWN = "data beside the weights, not called", "unknown, not called"


@dataclass(frozen=True)
class Checked:
    """Weights that a run may take.

    ``state`` are their tensors by name. ``roles`` are those of all that the file names, and
    ``unknown`` those classes and functions beside the weights that are no known data types.
    """

    chosen: Chosen
    state: State
    roles: Mapping[str, str]
    wanted: Wanted

    @property
    def unknown(self) -> tuple[str, ...]:
        """What the file names beside the weights that is no known data type."""
        return tuple(name for name, role in self.roles.items() if role == UNKNOWN)


@dataclass(frozen=True)
class Search:
    """What was found in a file that has been scanned.

    ``found`` are the places with the network's weights; where there are none, ``guess`` is what
    most looks like weights. ``roles`` say what each class and function that the file names is to
    this program; it is empty for one that is refused.
    """

    contents: Contents
    class_name: str | None
    found: Sequence[Located]
    guess: Located | None
    roles: Mapping[str, str]
    wanted: Wanted = THE_CNN

    @classmethod
    def of(cls, contents: Contents, class_name: str | None, wanted: Wanted = THE_CNN) -> Search:
        """Look for the weights that are ``wanted`` in ``contents``.

        What a whole model is made of must be known, unless the network is the user's own: then its
        class is what computes, and no other is called. Where there are weights, what stands beside
        them need not be known.
        """
        found = locate_weights(contents.root, wanted)
        guess = None if found else closest(contents.root, wanted)
        looked_at = found or ([guess] if guess is not None else [])
        inside: frozenset[str] = frozenset()
        if wanted.is_own or all(weights.class_name for weights in looked_at):
            inside = names_within(*(node for one in looked_at for node in one.modules))
        roles = {name: role_of(name, class_name) for name in contents.globals}
        for name, role in roles.items():
            if not role and wanted.is_own and name in inside and not runs_things(name):
                roles[name] = MODEL
            elif not role and name not in inside:
                if _is_data(name, contents):
                    roles[name] = BESIDE
                elif found and not runs_things(name):
                    roles[name] = UNKNOWN
        return cls(contents, class_name, found, guess, roles, wanted)


def check_weights(
    file: ModelFile, search: Search, key: str | None, same_numbers: SameNumbers
) -> Checked:
    """The weights that were found, of those that ``key`` leads to.

    ``same_numbers`` says whether two state dicts of one shape hold the same numbers. Raises
    CheckpointError unless the file holds the network, names nothing that runs code, and what the
    weights are made of is known.
    """
    contents, roles, wanted = search.contents, search.roles, search.wanted
    if running := [name for name, role in roles.items() if not role and runs_things(name)]:
        raise _would_call(file, running)
    if not search.found:
        raise _without_weights(file, search)
    if contents.excess:
        raise _in_excess(file, contents)
    fits = partial(_fits, file, wanted)
    chosen = choose_weights(file, wanted, search.found, key, fits=fits, same_numbers=same_numbers)
    weights = chosen.weights
    if foreign := _foreign_names(weights, search):
        raise _foreign_model(file, weights, foreign)
    known = {name for name, role in roles.items() if role not in ("", UNKNOWN)}
    if taker := taker_of(weights, contents.calls, known):
        raise file.refusal(f"would give the weights to {taker}, which could change them", _ALONE)
    state = check_fit(file, wanted, weights)
    for other in chosen.others if key is None and not wanted.is_own else ():
        if other.class_name and (problem := _other_layers(file, wanted, other, state)):
            raise file.refusal(
                f"holds these weights also as a {other.kind}, which is not the CNN: {problem}",
                f"if they are the CNN's nevertheless, add --key {weights.key}",
            )
    return Checked(chosen, state, roles, wanted)


_ALONE = f"if you trust its origin, save the weights alone there, by {SAVE_STATE}"


def _foreign_names(weights: Located, search: Search) -> list[str]:
    """What a whole model is made of that is not known."""
    inside = names_within(*weights.modules)
    names = [name for name in search.roles if name in inside]
    names += sorted(inside - search.roles.keys())  # what has no name of its own
    roles = search.roles if search.wanted.is_own else {}
    return [name for name in names if not (roles.get(name) or role_of(name, search.class_name))]


def _is_data(name: str, contents: Contents) -> bool:
    if name == GETATTR:
        asked = [call.args for call in contents.calls if call.global_name == GETATTR]
        return bool(asked) and all(_names_a_part(*arguments) for arguments in asked)
    return is_data(name)


def _names_a_part(*arguments: Any) -> bool:
    """Whether the arguments of getattr name a method or an inner class of something named."""
    thing, name = arguments if len(arguments) == 2 else (None, None)
    owner = getattr(thing, "global_name", "")
    plain = isinstance(name, str) and name.isidentifier() and not name.startswith("__")
    return plain and bool(owner) and not runs_things(f"{owner}.{name}")


def _would_call(file: ModelFile, names: Sequence[str]) -> CheckpointError:
    return file.refusal(f"would call {few(names)}, which is not tensor data", _ALONE)


def _in_excess(file: ModelFile, contents: Contents) -> CheckpointError:
    if contents.excess == PROTOCOL_0:
        return file.refusal(contents.excess, f"{SAVE_ANEW}, without pickle_protocol")
    return file.refusal(contents.excess)


def _without_weights(file: ModelFile, search: Search) -> CheckpointError:
    """Why a file is refused in which the network's names are not found."""
    guess, contents = search.guess, search.contents
    state = state_of(guess, search.wanted.shapes) if guess is not None else None
    whole = guess if guess is not None and guess.class_name else None
    foreign = [name for name, role in search.roles.items() if not role]
    if whole and foreign == [whole.class_name] and is_another(state or {}, search.wanted):
        foreign = []
    if foreign:
        return _foreign_model(file, whole, foreign) if whole else _would_call(file, foreign)
    if contents.excess:
        return _in_excess(file, contents)
    try:
        if guess is None or state is None or not all(map(is_tensor, state.values())):
            return nothing_found(file, contents.root, guess)
        check_fit(file, search.wanted, guess, state)
    except CheckpointError as error:
        return error
    return file.refusal(f"holds {search.wanted.title} in a way that is not known")


def _foreign_model(file: ModelFile, whole: Located, foreign: Sequence[str]) -> CheckpointError:
    """Why a whole model is refused that consists of more than the CNN's layers."""
    model = whole.class_name
    if list(foreign) == [model]:
        return file.refusal(
            f"is a whole model of the class {model}, not CNN",
            f"if its layers are the CNN's, add --class-name {model}",
        )
    torch_nn = [name for name in foreign if name.startswith("torch.nn.")]
    if not {*foreign} <= {*torch_nn, *_classes_within(whole.node)}:
        return _would_call(file, foreign)
    remedy = OWN
    if locate_weights(state_of(whole), THE_CNN):
        remedy = f"its weights fit, so save them alone, by {SAVE_STATE}"
    layers = [name.rpartition(".")[2] for name in foreign if name != model]
    return file.refusal(f"is a model of another architecture: it has {few(layers)}", remedy)


def _classes_within(module: Any) -> Iterator[str]:
    return (inner.global_name for _, inner in walk_modules(module))


def is_another(state: State, wanted: Wanted = THE_CNN) -> bool:
    """Whether a state dict is that of another network: it has less than half of the names."""
    return 2 * len(wanted.required & state.keys()) < len(wanted.required)


def check_fit(
    file: ModelFile, wanted: Wanted, weights: Located, state: State | None = None
) -> State:
    """The tensors of ``weights`` by name, which are ``state`` if that is known.

    Raises CheckpointError unless their names, shapes and types, and the layers of a whole model,
    are those ``wanted``.
    """
    state = state_of(weights, wanted.shapes) if state is None else state
    remedy = f"compare {_inspect(file.path)} with {_inspect(PACKAGED)}, the packaged model"
    if wanted.is_own:
        remedy = (
            "give the class as it was when the file was saved, or its --network-args; "
            f"{_inspect(file.path)} lists what is in the file"
        )
    if is_another(state, wanted):
        from batchdigit.models.architecture import layers_in_a_line  # it serves this message alone

        layers = layers_in_a_line(state) or "no tensors"
        problem = f"holds another network than {wanted.title}: {layers}"
        if wanted.is_own:
            raise file.refusal(f"{problem}; {_misfit(state, wanted.shapes)}", remedy)
        raise file.refusal(problem, OWN)
    wanted = _as_in(file, wanted, state)
    problem = _misfit(state, wanted.shapes, wanted.types)
    if not problem and weights.class_name:
        problem = _other_layers(file, wanted, weights, state)
    if problem:
        raise file.refusal(f"does not fit {wanted.title}: {problem}", remedy)
    return state


def _other_layers(file: ModelFile, wanted: Wanted, weights: Located, state: State) -> str:
    """How the layers of a whole model differ from the packaged network's, or nothing."""
    from batchdigit.models.layers import difference  # a state dict alone does without

    layers = _as_in(file, wanted, state).layers
    return difference(weights, layers) if layers is not None else ""


def _as_in(file: ModelFile, wanted: Wanted, state: State) -> Wanted:
    """What is wanted; if the packaged network is, with as many classes as ``state`` has."""
    if wanted.is_own:
        return wanted
    last = state.get(LAST_WEIGHT)
    classes = last.shape[0] if last is not None and last.shape else MNIST.classes
    if not 1 <= classes <= MAX_CLASSES:
        raise file.refusal(f"has {classes} classes", f"use one that has 1 to {MAX_CLASSES} classes")
    return wanted.of_classes(classes)


def _fits(file: ModelFile, wanted: Wanted, state: State) -> bool:
    """Whether names, shapes and types are those wanted."""
    try:
        return not _misfit(state, _as_in(file, wanted, state).shapes, wanted.types)
    except CheckpointError:
        return False


def _inspect(path: Path) -> str:
    return f"`batchdigit model inspect {shlex.quote(str(path))}`"


def _misfit(
    state: State, expected: Mapping[str, tuple[int, ...]], types: Sequence[str] = ()
) -> str:
    """How names, shapes and types differ from those expected, or nothing."""
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    extra = [name for name in state if name not in expected]
    if missing or extra:
        parts = [
            f"{what} {few(names)}"
            for what, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        texts = [name for name in extra[:1000] if isinstance(name, str)]
        likely = [name for name in texts if len(name) < 100]  # more would take too long
        pairs = [(name, difflib.get_close_matches(name, likely, n=1)) for name in missing[:3]]
        if near := [f"{name} ~ {match[0]}" for name, match in pairs if match]:
            parts.append(f"nearest names {', '.join(near)}")
        return "; ".join(parts)
    shapes = [
        f"{name} has the shape {tensor.shape} instead of {expected[name]}"
        for name, tensor in state.items()
        if tensor.shape != expected[name]
    ]
    if shapes:
        return few(shapes)
    for name, tensor in state.items():
        if tensor.dtype not in (*WEIGHT_DTYPES, *types) and not name.endswith(COUNTER):
            return f"{name} is of type {tensor.dtype}, which holds no weights"
    return ""
