"""Values as the callers of Python functions give them, which may be of any type."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from dataclasses import fields
from numbers import Real
from typing import Any

from batchdigit.errors import UsageError
from batchdigit.system.paths import as_path


def settle_types(part: Any, declared: type) -> None:
    """Give the fields of ``part`` that the dataclass ``declared`` declares the types it says.

    A number or a truth of numpy's becomes one of Python's, and what names a file a Path. That goes
    for ``bool``, ``int``, ``float``, ``str`` and ``Path``, also where they may be None; what fields
    of other types take is not looked at. Raises UsageError for all else, text for a number among
    it: whoever calls may have read it from a file, and would get something else than he thinks.
    """
    for field in fields(declared):
        name, *others = str(field.type).split(" | ")
        value = getattr(part, field.name)
        if name not in _KINDS or (value is None and "None" in others):
            continue
        taken = _KINDS[name](field.name, value)
        if taken is not value:
            object.__setattr__(part, field.name, taken)  # the instance may be frozen


def _truth(name: str, value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # the latter numpy's
        return bool(value)
    raise _wrong(name, value, "True or False")


def _whole_number(name: str, value: Any) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise _wrong(name, value, "a whole number")


def _number(name: str, value: Any) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a huge whole number
            return float(value)
    raise _wrong(name, value, "a number")


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise _wrong(name, value, "text")


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    kind = type(value).__name__
    shown = f"={value!r}" if isinstance(value, str | bytes | int | float) else ""
    return UsageError(f"{name}{shown} is of type {kind}", f"give {wanted}")


_KINDS: dict[str, Callable[[str, Any], object]] = {
    "bool": _truth,
    "int": _whole_number,
    "float": _number,
    "str": _text,
    "Path": as_path,
}
