"""A pickle read as data: what it would build and call, without building or calling it.

A pickle is a program for a machine with a stack. This machine runs it with a stand-in for every
class and function that it names: calling one only notes what it was called with. Nothing is
imported, and no value is larger than its text in the pickle.

The opcodes are those of Python's ``pickletools``, protocols 0 to 5.
"""

from __future__ import annotations

import io
import itertools
import pickletools
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any, ClassVar

MAX_OPCODES = 1_000_000  # the CNN's state dict takes 1,244, the whole model 3,764

MAX_BYTES = 4 << 20  # the CNN's state dict takes 4 KB, the whole model 10 KB
MAX_GLOBALS = 1_000  # each takes kilobytes; the whole model names 13

_KEY_TYPES = (str, bytes, int, float, bool, type(None))
_DISTINCT_HASHES = 2**60  # larger numbers can share one; a dictionary of those takes for ever
# What Python 2 wrote; the modules that torch.save names have kept their names.
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_OPCODES = {opcode.name: opcode for opcode in pickletools.opcodes}


class PickleError(ValueError):
    """The bytes are no pickle, or one that only an attack would hold."""


class PickleTooLargeError(PickleError):
    """It holds more than the weights of any CNN take."""


class Instance:
    """What calling a named class or function would give: its name, its arguments, its state."""

    global_name: ClassVar[str] = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Instance:
        """Remember the arguments of the call."""
        instance = super().__new__(cls)
        instance.args, instance.state = args, None
        return instance

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def attributes(self) -> dict[str, Any]:
        """The state by name, where it is a dictionary with text for keys."""
        state = self.state if isinstance(self.state, dict) else {}
        return {name: value for name, value in state.items() if isinstance(name, str)}


def stand_in(global_name: str) -> type[Instance]:
    """A class that takes the place of ``global_name``, and only remembers."""
    return type("StandIn", (Instance,), {"global_name": global_name})


@dataclass(frozen=True)
class PersistentId:
    """A reference to what lies outside the pickle; ``torch.save`` keeps the numbers there."""

    pid: Any


Resolve = Callable[[Instance | PersistentId], Any]


@dataclass
class Pickle:
    """What one pickle holds.

    ``globals`` are the classes and functions that it names (``module.name``), in order; ``end``
    is the position behind its STOP.
    """

    root: Any = None
    globals: dict[str, type[Instance]] = field(default_factory=dict)
    end: int = 0


def read_pickle(data: bytes, start: int = 0, resolve: Resolve = lambda node: node) -> Pickle:
    """The pickle in ``data`` from byte ``start``.

    ``resolve`` is asked, in order, for what shall stand for each call and each reference.
    Raises PickleError for bytes that are no pickle, PickleTooLargeError for more than
    MAX_BYTES of them or MAX_OPCODES instructions.
    """
    machine = _Machine(resolve)
    stream = io.BytesIO(data[start : start + MAX_BYTES])
    instructions = itertools.islice(pickletools.genops(stream), MAX_OPCODES)
    try:
        for opcode, argument, _ in instructions:
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        if start + MAX_BYTES < len(data) and not stream.read(1):
            raise PickleTooLargeError(f"a pickle of more than {MAX_BYTES >> 20} MiB") from error
        raise PickleError(f"a broken pickle ({error})") from error
    if not machine.stopped:
        raise PickleTooLargeError(f"a pickle of more than {MAX_OPCODES} instructions")
    machine.pickle.end = start + stream.tell()
    return machine.pickle


class _Machine:
    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve
        self.pickle = Pickle()
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stack below each MARK
        self.memo: dict[int, Any] = {}
        self.items = 0
        self.stopped = False

    def step(self, name: str, argument: Any) -> None:  # noqa: PLR0912, PLR0915
        """Run one instruction; the names are pickletools'."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "READONLY_BUFFER":
                pass
            case "NONE" | "NEXT_BUFFER":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":  # a set's items need not be hashable here
                stack.append([])
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "POP_MARK":
                self._pop_to_mark()
            case "POP":
                if stack:
                    stack.pop()
                else:
                    self._pop_to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[int(argument)])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                stack.append(tuple([stack.pop() for _ in range(size)][::-1]))
            case "TUPLE":
                items = self._pop_to_mark()
                self.stack.append(tuple(items))
            case "LIST" | "FROZENSET":
                items = self._pop_to_mark()
                self.stack.append(items)
            case "DICT":
                items = self._pop_to_mark()
                self.stack.append({})
                _set_items(self.stack[-1], items)
            case "APPEND":
                item = stack.pop()
                _extend(stack[-1], [item])
            case "APPENDS" | "ADDITEMS":
                items = self._pop_to_mark()
                _extend(self.stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = self._pop_to_mark()
                _set_items(self.stack[-1], items)
            case "GLOBAL":
                stack.append(self._global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(self._global(module, attribute))
            case "EXT1" | "EXT2" | "EXT4":
                stack.append(self._global("copyreg", f"extension {argument}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "NEWOBJ_EX":
                keywords, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(self._call(function, (*arguments, keywords)))
            case "INST":
                arguments = self._pop_to_mark()
                self.stack.append(self._call(self._global(*argument.split(" ", 1)), arguments))
            case "OBJ":
                function, *arguments = self._pop_to_mark()
                self.stack.append(self._call(function, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Instance):
                    stack[-1].__setstate__(state)
            case "PERSID":
                stack.append(self.resolve(PersistentId(argument)))
            case "BINPERSID":
                stack.append(self._reference(stack.pop()))
            case "STOP":
                self.pickle.root = stack.pop()
                self.stopped = True
            case _ if _OPCODES[name].arg is not None and not _OPCODES[name].stack_before:
                stack.append(argument)  # all others push the constant that follows them
            case _:
                raise PickleError(f"a pickle with the unknown instruction {name}")

    def _pop_to_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def _global(self, module: Any, name: Any) -> type[Instance]:
        """The stand-in for a class or function, by the names that Python 3 has for modules."""
        if not (isinstance(module, str) and isinstance(name, str)):
            module, name = "a name", "that is computed"
        full = f"{_MODULES.get(module, module)}.{name}"
        if len(self.pickle.globals) >= MAX_GLOBALS:
            raise PickleError(f"a pickle that names more than {MAX_GLOBALS} classes and functions")
        return self.pickle.globals.setdefault(full, stand_in(full))

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(arguments, tuple | list):
            raise PickleError("a pickle with a call that has no list of arguments")
        self._count(arguments)
        if isinstance(function, type) and issubclass(function, Instance):
            if function.global_name == "collections.OrderedDict":
                for pairs in arguments:
                    self._count(pairs)
                return _dictionary(arguments)
            return self.resolve(function(*arguments))
        return self.resolve(Instance(function, *arguments))  # what a call gave is called, say

    def _count(self, items: Sized) -> None:
        """Items that stand once in the pickle can be used, and copied, any number of times."""
        self.items += len(items)
        if self.items > MAX_OPCODES:
            raise PickleError("a pickle that repeats its contents")

    def _reference(self, pid: Any) -> Any:
        # Before torch 1.6 a class stood with its file and its source code.
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return pid[1]
        return self.resolve(PersistentId(pid))


def _dictionary(arguments: Any) -> dict[Any, Any]:
    """An OrderedDict's; Python 2 gave its pairs as the argument."""
    dictionary: dict[Any, Any] = {}
    for pairs in arguments:
        for key, value in pairs:
            _set_items(dictionary, [key, value])
    return dictionary


def _set_items(target: Any, items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # The hash of a tuple of tuples of ... can take for ever.
        if not isinstance(key, _KEY_TYPES):
            raise PickleError("a pickle with a dictionary key that is neither text nor number")
        if isinstance(key, int) and abs(key) >= _DISTINCT_HASHES:
            raise PickleError("a pickle with a dictionary key that no dictionary has")
        if isinstance(target, dict):  # else an Instance, whose items nobody asks for
            target[key] = value


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
