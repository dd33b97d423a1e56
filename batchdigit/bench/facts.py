"""What a measurement says of its machine, model and so on, as text for people.

It is JSON data of any shape, and names of devices and files in it are nobody's promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from batchdigit.errors import one_line

MOST = 200  # characters of a name or a value


def facts(data: Mapping[str, Any]) -> dict[str, str]:
    """Names and values; those of an object in an object are named ``outer inner``."""
    return dict(_facts("", data))


def _facts(outer: str, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = one_line(f"{outer} {key}".replace("_", " "), MOST)
        if isinstance(value, Mapping):
            yield from _facts(name, value)
        elif isinstance(value, list | tuple):
            yield name, one_line(", ".join(map(_text, value[:MOST])), MOST)
        else:
            yield name, one_line(_text(value), MOST)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else str(value)
