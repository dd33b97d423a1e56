"""The machine that runs a pickle as data.

A pickle is a program for a machine with a stack. This machine runs it with a stand-in for every
class and function that it names: calling one only notes what it was called with. Nothing is
imported, and no value is larger than its text in the pickle.
"""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # what Python 2 called it, as torch writes
from collections.abc import Sequence
from typing import Any

from batchdigit.modelfiles.limits import MAX_GLOBALS, PickleError, Work, check_name
from batchdigit.modelfiles.standins import Instance, OtherKey, Resolve, stand_in

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
            set_items(dictionary, [key, value])
    return dictionary


def set_items(target: Any, items: Sequence[Any]) -> None:
    """Give keys and values, in turn, to a dictionary; raise PickleError for impossible keys."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, int) and abs(key) >= MAX_INTEGER_KEY:
            raise PickleError("a pickle with a dictionary key that no dictionary has")
        if isinstance(key, str | bytes):
            check_name(key)
        if isinstance(target, dict):  # else an Instance, whose items nobody asks for
            target[key if isinstance(key, _KEY_TYPES) else OtherKey(key)] = value
