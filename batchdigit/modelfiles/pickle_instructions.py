"""The instructions of the machine that runs a pickle as data.

They are those of Python's ``pickletools``, protocols 0 to 5.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batchdigit.modelfiles.limits import MAX_STEPS, PickleError
from batchdigit.modelfiles.pickle_machine import Machine, set_items
from batchdigit.modelfiles.standins import Instance, PersistentId, StateGiven

_REBUILT = "a pickle that changes what it has built"


def _extend(machine: Machine, items: Sequence[Any]) -> None:
    """Give items to the list or object at the top of the stack."""
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Instance):  # as if it were called with them
        machine.call(target, items)
    else:  # for example something that the pickle only names, whose ``append`` can do anything
        raise PickleError(_REBUILT)


def _update(machine: Machine, items: Sequence[Any]) -> None:
    """Give keys and values to the dictionary or object at the top of the stack."""
    target = machine.stack[-1]
    if not isinstance(target, dict | Instance):  # for example a tensor, whose numbers they are
        raise PickleError(_REBUILT)
    set_items(target, items)
    if isinstance(target, Instance):
        machine.call(target, items)


Instruction = Callable[[Machine, Any], None]
"""What an opcode does to the machine, given the argument that follows it, or None."""


def _nothing(machine: Machine, argument: Any) -> None:
    pass


def _push_argument(machine: Machine, argument: Any) -> None:
    machine.push(argument)


def _push_new(make: Callable[[], Any]) -> Instruction:
    return lambda machine, _: machine.push(make())


def _mark(machine: Machine, _: Any) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _pop_mark(machine: Machine, _: Any) -> None:
    machine.pop_to_mark()


def _pop(machine: Machine, _: Any) -> None:
    if machine.stack:
        machine.pop()
    else:
        machine.pop_to_mark()


def _get(machine: Machine, argument: Any) -> None:
    machine.push(machine.memo[int(argument)])


def _put(machine: Machine, argument: Any) -> None:
    # Pickles number what they remember from 0. Numbers that share a hash would take forever.
    place = int(argument)
    if not 0 <= place < MAX_STEPS:
        raise PickleError("a pickle with a memo of impossible size")
    machine.memo[place] = machine.stack[-1]


def _memoize(machine: Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _tuple_of(size: int) -> Instruction:
    return lambda machine, _: machine.push(tuple([machine.pop() for _ in range(size)][::-1]))


def _collect(make: Callable[[list[Any]], Any]) -> Instruction:
    def instruction(machine: Machine, _: Any) -> None:
        items = machine.pop_to_mark()
        machine.push(make(items))

    return instruction


def _dict(items: list[Any]) -> dict[Any, Any]:
    dictionary: dict[Any, Any] = {}
    set_items(dictionary, items)
    return dictionary


def _append(machine: Machine, _: Any) -> None:
    _extend(machine, [machine.pop()])


def _appends(machine: Machine, _: Any) -> None:
    _extend(machine, machine.pop_to_mark())


def _setitem(machine: Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _update(machine, [key, value])


def _setitems(machine: Machine, _: Any) -> None:
    _update(machine, machine.pop_to_mark())


def _global(machine: Machine, argument: Any) -> None:
    machine.push(machine.name(*argument.split(" ", 1)))


def _stack_global(machine: Machine, _: Any) -> None:
    attribute, module = machine.pop(), machine.pop()
    machine.push(machine.name(module, attribute))


def _extension(machine: Machine, argument: Any) -> None:
    machine.push(machine.name("copyreg", f"extension {argument}"))


def _reduce(machine: Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.push(machine.call(function, arguments))


def _newobj_ex(machine: Machine, _: Any) -> None:
    keywords, arguments, function = machine.pop(), machine.pop(), machine.pop()
    machine.push(machine.call(function, (*arguments, keywords)))


def _inst(machine: Machine, argument: Any) -> None:
    arguments = machine.pop_to_mark()
    machine.push(machine.call(machine.name(*argument.split(" ", 1)), arguments))


def _obj(machine: Machine, _: Any) -> None:
    function, *arguments = machine.pop_to_mark()
    machine.push(machine.call(function, arguments))


def _build(machine: Machine, _: Any) -> None:
    """Note the state of an object; a second one, which Python would add to it, makes it a tuple."""
    state = machine.pop()
    target = machine.stack[-1]
    if isinstance(target, Instance):
        target.__setstate__(state if target.state is None else (target.state, state))
        machine.resolve(StateGiven(target, state))
    elif not (isinstance(target, dict) and _is_plain_state(state)):  # of an OrderedDict
        raise PickleError(_REBUILT)


def _is_plain_state(state: Any) -> bool:
    """Whether a state only gives an object attributes, none of which takes the next state."""
    return isinstance(state, dict) and all(
        isinstance(key, str) and key != "__setstate__" for key in state
    )


def _persid(machine: Machine, argument: Any) -> None:
    machine.push(machine.resolve(PersistentId(argument)))


def _binpersid(machine: Machine, _: Any) -> None:
    pid = machine.pop()
    # Before torch 1.6 a class stood with its file and its source code.
    if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
        machine.push(pid[1])
    else:
        machine.push(machine.resolve(PersistentId(pid)))


def _stop(machine: Machine, _: Any) -> None:
    machine.root = machine.pop()


INSTRUCTIONS: Mapping[str, Instruction] = {
    # Those that are not listed below push the constant that follows them.
    **{
        opcode.name: _push_argument
        for opcode in pickletools.opcodes
        if opcode.arg is not None and not opcode.stack_before
    },
    **dict.fromkeys(["PROTO", "FRAME", "READONLY_BUFFER"], _nothing),
    **dict.fromkeys(["NONE", "NEXT_BUFFER"], _push_new(lambda: None)),
    "NEWTRUE": _push_new(lambda: True),
    "NEWFALSE": _push_new(lambda: False),
    "EMPTY_TUPLE": _push_new(tuple),
    "EMPTY_DICT": _push_new(dict),
    # The items of a set need not be hashable here.
    **dict.fromkeys(["EMPTY_LIST", "EMPTY_SET"], _push_new(list)),
    "MARK": _mark,
    "POP_MARK": _pop_mark,
    "POP": _pop,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    **dict.fromkeys(["GET", "BINGET", "LONG_BINGET"], _get),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], _put),
    "MEMOIZE": _memoize,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": _collect(tuple),
    **dict.fromkeys(["LIST", "FROZENSET"], _collect(list)),
    "DICT": _collect(_dict),
    "APPEND": _append,
    **dict.fromkeys(["APPENDS", "ADDITEMS"], _appends),
    "SETITEM": _setitem,
    "SETITEMS": _setitems,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(["EXT1", "EXT2", "EXT4"], _extension),
    **dict.fromkeys(["REDUCE", "NEWOBJ"], _reduce),
    "NEWOBJ_EX": _newobj_ex,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _build,
    "PERSID": _persid,
    "BINPERSID": _binpersid,
    "STOP": _stop,
}
"""By the name of the opcode in ``pickletools``."""
