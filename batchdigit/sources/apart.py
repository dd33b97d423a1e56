"""Outputs are no images: what would be read is never written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from batchdigit.errors import UsageError
from batchdigit.places import STDOUT
from batchdigit.sources.endings import EXTENSIONS


def check_apart(option: str, path: Path | None, sources: Iterable[str | Path]) -> None:
    """Raise UsageError if an output is one of the ``sources``, or an image in one of them.

    ``option`` names the output; a ``path`` of None, or of standard output, is none. An image need
    not be there: what this run wrote under its name, the next one would read.
    """
    if path is None or path == STDOUT:
        return
    place = Path(os.path.realpath(path))
    for source in sources:
        root = Path(os.path.realpath(source))
        if place == root:
            raise UsageError(f"{option} {path} is what is to be read", "give another name")
        if place.is_relative_to(root) and _may_be_an_image(place):
            raise UsageError(
                f"{option} {path} is, or would be, an image in {source}, which is to be read",
                "give another name, or another folder",
            )


def _may_be_an_image(place: Path) -> bool:
    """Whether its name, or what is there already, is an image's."""
    if os.fsencode(place).lower().endswith(EXTENSIONS):
        return True
    if not place.exists():
        return False
    from batchdigit.sources.signatures import HEAD, format_of
    from batchdigit.system.regular import head

    try:
        return bool(format_of(head(place, HEAD)))
    except OSError:
        return False
