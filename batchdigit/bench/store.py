"""A measurement in a file: everything as JSON, or a row for each sample as CSV or Parquet.

JSON is read again, by those who compare.
"""

from __future__ import annotations

import csv
import io
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from batchdigit.bench.measurement import (
    FORMAT,
    LOOP,
    START,
    WORK,
    Check,
    Measurement,
    Sample,
    Start,
)
from batchdigit.errors import UsageError, one_line
from batchdigit.system.publish import Publication, check_target, writing

LARGEST_FILE = 100 << 20
_RATES = (1e-9, 1e15)  # images a second that a ratio of can be formed of
_LARGEST = 1 << 63
STAGES = (*START, *LOOP, "total")


def check_data_path(path: Path) -> None:
    """Raise, before anything is measured, what :func:`write_data` would raise about ``path``.

    UsageError unless its name says which format to write, OutputError where no file can be put.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(
            f"{path.name!r} does not say which format to write",
            f"end it in {', '.join(_FORMATS)}",
        )
    check_target(path)


def write_data(measurement: Measurement, path: Path) -> None:
    """Write all that was measured to ``path``, which appears whole or not at all.

    Raises OutputError where it cannot be written.
    """
    data = _FORMATS[path.suffix.lower()](measurement)
    with Publication() as publication, writing(path):
        publication.create(path).write(data)
        publication.publish()


def rows(measurement: Measurement) -> list[dict[str, Any]]:
    """A row for each sample: its setting, rate, seconds by stage, use of the machine, parity."""
    return [
        {
            "started": measurement.started,
            "backend": point.setting.backend,
            "device": point.setting.device,
            "precision": point.setting.precision,
            "batch_size_given": point.setting.batch_size,
            "workers_given": point.setting.workers,
            "batch_size": sample.batch_size,
            "workers": sample.workers,
            "threads": sample.threads,
            "images": sample.images,
            "images_per_second": sample.rate,
            **{f"seconds_{stage}": sample.seconds.get(stage, 0.0) for stage in STAGES},
            **{f"busy_{stage}": sample.busy.get(stage, 0.0) for stage in WORK},
            "cpu_seconds": sample.cpu_seconds,
            "peak_memory_bytes": sample.peak_memory,
            "peak_device_memory_bytes": sample.peak_device_memory,
            "joules": sample.joules,
            "label_flips": point.parity.flips if point.parity else None,
            "images_compared": point.parity.images if point.parity else None,
            "largest_difference": point.parity.difference if point.parity else None,
            "model_sha256": measurement.model["sha256"],
            "host": measurement.machine["host"],
        }
        for point in measurement.points
        for sample in point.samples
    ]


def _json(measurement: Measurement) -> bytes:
    return (json.dumps(measurement.as_json(), indent=1) + "\n").encode()


def _csv(measurement: Measurement) -> bytes:
    table = rows(measurement)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, table[0] if table else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def _parquet(measurement: Measurement) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows(measurement)), stream)
    return stream.getvalue()


_FORMATS: dict[str, Callable[[Measurement], bytes]] = {
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def read_measurement(path: Path) -> Measurement:
    """The measurement in a file. Raises UsageError for everything that is none."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}",
            "name a JSON file that batchdigit bench wrote",
        ) from error
    except ValueError as error:  # a null byte in its name
        raise _refused(path, str(error)) from error
    if len(data) > LARGEST_FILE:
        raise _refused(path, f"it has more than {LARGEST_FILE:,} bytes")
    try:
        return measurement_from(json.loads(data, parse_constant=_no_number))
    except KeyError as error:
        raise _refused(path, f"{error} is missing") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(path, str(error)) from error


def measurement_from(data: Any) -> Measurement:
    """The same from JSON data. Raises KeyError, TypeError or ValueError for other data."""
    if not isinstance(data, dict) or "format" not in data or "points" not in data:
        raise ValueError("it is other JSON data")
    if data["format"] != FORMAT:
        raise ValueError(f"it is of format {data['format']!r:.20}, and this version reads {FORMAT}")
    measurement = Measurement.from_json(data)
    _check(measurement, "")
    settings = [point.setting for point in measurement.points]
    if len(set(settings)) < len(settings):
        raise ValueError("a setting is in it twice")
    return measurement


def _refused(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"{path} is no measurement: {one_line(reason)}",
        "name a JSON file that batchdigit bench of this version wrote, or measure again",
    )


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is in it where a number should be")


def _check(record: Any, place: str) -> None:
    """Raise ValueError unless all fields of a record and of those in it are as they are declared.

    Numbers are finite and not negative. Dataclasses do not look at what they are given.
    """
    for name, kind in typing.get_type_hints(type(record)).items():
        _check_value(getattr(record, name), kind, f"{place}.{name}".removeprefix("."))
    if isinstance(record, Start | Check) and not record.seconds:
        raise ValueError(f"{place} has no seconds")
    if isinstance(record, Sample) and not (
        record.seconds.get("total", 0) > 0
        and record.span > 0
        and _RATES[0] < record.rate < _RATES[1]
    ):
        raise ValueError(f"{place} took no time, or more than can be")


def _check_value(value: Any, kind: Any, place: str) -> None:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is not None:
            _check_value(value, parts[0], place)
    elif origin is not None:
        _check_items(value, (origin, parts), place)
    elif is_dataclass(kind):
        _check(value, place)
    elif kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 <= value < _LARGEST:
            raise ValueError(f"{place} is not a number that can be measured")
    elif kind is int:
        if type(value) is not int or not 0 <= value < _LARGEST:
            raise ValueError(f"{place} is not a count")
    elif kind is str and not isinstance(value, str):
        raise ValueError(f"{place} is not text")


def _check_items(value: Any, kind: tuple[Any, tuple[Any, ...]], place: str) -> None:
    origin, parts = kind
    items: dict[Any, Any] | None = None
    if origin is tuple and isinstance(value, tuple):
        items = dict(enumerate(value))
    elif origin is not tuple and isinstance(value, dict):
        items = value
    if items is None:
        raise ValueError(f"{place} is not {'a list' if origin is tuple else 'an object'}")
    of_items = parts[0] if origin is tuple else parts[1]
    for name, item in items.items():
        _check_value(item, of_items, f"{place}[{name}]")
