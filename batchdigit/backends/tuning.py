"""What is measured once and remembered, and the measurements.

They are kept in ``batchdigit/tuning.json`` in the user's cache folder (``XDG_CACHE_HOME`` of the
XDG base directory specification, else ``~/.cache``). The file is only a cache: if it is missing or
cannot be written, all is measured again.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from batchdigit.system.json_objects import read_json_object

Value = TypeVar("Value")

MAX_REMEMBERED = 1_000  # values; a model that is trained every night would add one each time
MAX_BYTES = 16 << 20  # of the file
MIN_BATCH_SIZE, MAX_BATCH_SIZE = 256, 65_536  # images in a batch
MIN_GAIN = 1.03  # in throughput, for twice the batch


def is_count(value: Any) -> bool:
    """Whether a value from the file is a number of things."""
    return type(value) is int and value >= 0


def remembered(
    key: str,
    measure: Callable[[], Value],
    is_value: Callable[[Any], bool] = is_count,
    *,
    write: bool = True,
) -> tuple[Value, str]:
    """The value for ``key``, JSON data, and whether it was ``measured`` now or ``cached``.

    What the file holds counts only if ``is_value`` of it. Without ``write``, what is measured is
    not remembered.
    """
    cached: Any = _read().get(key)
    if is_value(cached):
        return cached, "cached"
    value = measure()
    if write:
        with contextlib.suppress(OSError):
            others = {name: other for name, other in _read().items() if name != key}
            _write(dict([*others.items(), (key, value)][-MAX_REMEMBERED:]))
    return value, "measured"


def cache_file() -> Path:
    """Where settings are remembered. Raises RuntimeError if there is no home folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification says to ignore it
        base = Path.home() / ".cache"
    return base / "batchdigit" / "tuning.json"


def _read() -> dict[str, Any]:
    try:
        return read_json_object(cache_file(), MAX_BYTES)
    except RuntimeError:  # there is no home folder
        return {}


def _write(known: dict[str, Any]) -> None:
    with contextlib.suppress(RuntimeError):
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            try:
                json.dump(known, file, indent=1)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise


def best_batch_size(rate: Callable[[int], float | None]) -> int:
    """The first batch size for which twice the size gains less than 3%.

    ``rate`` returns the images a second for a batch size, None if it needs too much memory.
    """
    best, best_rate = MIN_BATCH_SIZE, rate(MIN_BATCH_SIZE) or 0.0
    while best < MAX_BATCH_SIZE:
        faster = rate(2 * best)
        if faster is None or faster < MIN_GAIN * best_rate:
            break
        best, best_rate = 2 * best, faster
    return best
