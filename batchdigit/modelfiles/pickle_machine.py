"""The machine that runs a pickle as data, and its instructions.

A pickle is a program for a machine with a stack. This machine runs it with a stand-in for every
class and function that it names: calling one only notes what it was called with. Nothing is
imported, and no value is larger than its text in the pickle.

The instructions are those of Python's ``pickletools``, protocols 0 to 5.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # what Python 2 called it, as torch writes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batchdigit.modelfiles.limits import MAX_GLOBALS, MAX_STEPS, PickleError, Work, check_name
from batchdigit.modelfiles.standins import Instance, OtherKey, PersistentId, Resolve, stand_in

MAX_INTEGER_KEY = 2**60  # larger ones can share a hash; a dictionary of those takes forever

_KEY_TYPES = (str, bytes, int, float, bool, type(None))


class Machine:
    """The stack, the memo and what has been read so far.

    ``globals`` are the classes and functions that the pickle names (``module.name``), in order.
    In the end ``root`` is what the pickle holds. ``resolve`` is asked, in order, what takes the
    place of each call and each reference. ``work`` counts the steps.
    """

    def __init__(self, resolve: Resolve, work: Work) -> None:
        self.resolve = resolve
        self.work = work
        self.root: Any = None
        self.globals: dict[str, type[Instance]] = {}
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stack below each MARK
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the top value off the stack."""
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Take off what was pushed since the last MARK."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def name(self, module: Any, name: Any) -> type[Instance]:
        """The stand-in for a class or function, by the names that Python 3 has for modules."""
        if not (isinstance(module, str) and isinstance(name, str)):
            module, name = "a name", "that is computed"
        check_name(module)
        check_name(name)
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if (known := self.globals.get(full)) is not None:
            return known
        if len(self.globals) >= MAX_GLOBALS:
            raise PickleError(f"a pickle that names more than {MAX_GLOBALS} classes and functions")
        self.globals[full] = stand_in(full)
        return self.globals[full]

    def call(self, function: Any, arguments: Any) -> Any:
        """What takes the place of calling ``function``; nothing is called."""
        if not isinstance(arguments, tuple | list):
            raise PickleError("a pickle with a call that has no list of arguments")
        self.work.add(len(arguments))  # because one item can be copied any number of times
        if not _is_stand_in(function):
            return self.resolve(Instance(function, *arguments))  # for example what a call gave
        name = function.global_name
        if name == "collections.OrderedDict":
            for pairs in arguments:
                self.work.add(len(pairs))
            return _dictionary(arguments)
        if name == "collections.defaultdict" and len(arguments) <= 1:  # what makes new values
            return {}
        if name == "copyreg._reconstructor" and len(arguments) == 3:  # in protocols 0 and 1
            made, base, state = arguments
            plain = getattr(base, "global_name", "") == "builtins.object" and state is None
            if _is_stand_in(made) and plain:
                return self.resolve(made())
        return self.resolve(function(*arguments))


def _is_stand_in(function: Any) -> bool:
    return isinstance(function, type) and issubclass(function, Instance)


def _dictionary(arguments: Any) -> dict[Any, Any]:
    """The content of an OrderedDict; Python 2 passed its pairs as the argument."""
    dictionary: dict[Any, Any] = {}
    for pairs in arguments:
        for key, value in pairs:
            _set_items(dictionary, [key, value])
    return dictionary


def _set_items(target: Any, items: Sequence[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, int) and abs(key) >= MAX_INTEGER_KEY:
            raise PickleError("a pickle with a dictionary key that no dictionary has")
        if isinstance(key, str | bytes):
            check_name(key)
        if isinstance(target, dict):  # else an Instance, whose items nobody asks for
            target[key if isinstance(key, _KEY_TYPES) else OtherKey(key)] = value


def _extend(machine: Machine, items: Sequence[Any]) -> None:
    """Give items to the list or object at the top of the stack."""
    target = machine.stack[-1]
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Instance):  # as if it were called with them
        machine.call(target, items)


def _update(machine: Machine, items: Sequence[Any]) -> None:
    """Give keys and values to the dictionary or object at the top of the stack."""
    _set_items(machine.stack[-1], items)
    if isinstance(machine.stack[-1], Instance):
        machine.call(machine.stack[-1], items)


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
    _set_items(dictionary, items)
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
    elif not isinstance(target, dict):  # whose state is an attribute of an OrderedDict
        raise PickleError("a pickle that changes what it has built")


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
