"""What a measurement says about its machine, model and so on, as text for people.

That is JSON data of any shape, and nobody vouches for the names of devices and files in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from batchdigit.errors import one_line

MAX_LENGTH = 200  # characters of a name or a value; items of a list


def facts(data: Mapping[str, Any]) -> dict[str, str]:
    """Names and values; those of an object inside an object are named ``outer inner``."""
    return dict(_facts("", data))


def _facts(outer: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = one_line(f"{outer} {key}".replace("_", " "), MAX_LENGTH)
        if isinstance(value, Mapping):
            yield from _facts(name, value)
        elif isinstance(value, list | tuple):
            yield name, one_line(", ".join(map(_text, value[:MAX_LENGTH])), MAX_LENGTH)
        else:
            yield name, one_line(_text(value), MAX_LENGTH)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else str(value)
