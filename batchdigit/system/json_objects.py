"""JSON from files that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchdigit.system.regular import read_regular


def load_json(text: str | bytes, doubled: str) -> Any:
    """What the JSON ``text`` says.

    Of several equal names in an object, the json module alone would keep the last, where another
    reader takes the first. Here, they raise ValueError with the message ``doubled``. Raises
    ValueError for what is not JSON, too, and RecursionError for what is nested too deeply.
    """

    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(doubled)
        return found

    return json.loads(text, object_pairs_hook=each_once)


def read_json_object(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in a file of at most ``limit`` bytes.

    It is empty if there is no such file, if it cannot be read, or holds anything else.
    """
    try:
        data = json.loads(read_regular(path, limit) or b"")
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
