"""Numbers with their nouns, as people say them."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "", *, separator: str = "") -> str:
    """``1 image`` or ``2 images``; ``plural`` is for a noun that does not take an s.

    ``separator`` stands between thousands.
    """
    name = noun if number == 1 else plural or f"{noun}s"
    return f"{number:,} {name}".replace(",", separator)
