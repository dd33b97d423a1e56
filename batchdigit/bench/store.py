"""A measurement in a file: everything as JSON, or a row for each sample as CSV or Parquet.

Only JSON is read again, to compare it with another measurement.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from batchdigit.bench.measurement import FORMAT, LOOP, START, WORK, Measurement
from batchdigit.errors import UsageError, one_line
from batchdigit.reports.recognise import begins_with
from batchdigit.system.json_objects import read_json_object
from batchdigit.system.publish import Publication, check_target, writing
from batchdigit.system.regular import read_regular
from batchdigit.system.replacing import Kind, check_replaceable

MAX_BYTES = 100 << 20  # of a file that is read
STAGES = (*START, *LOOP, "total")
COLUMNS = ("started", "backend", "device", "precision")  # those that a table begins with


def _is_data(path: Path) -> bool:
    """Whether a file holds a measurement, in any of the formats."""
    whole = read_json_object(path, MAX_BYTES)
    return {"format", "points"} <= whole.keys() or begins_with(path, COLUMNS)


DATA = Kind("a measurement", _is_data)


def check_data_path(path: Path, *, force: bool = False) -> None:
    """Raise, before anything is measured, what :func:`write_data` would raise about ``path``.

    UsageError unless its name says which format to write, OutputError where no file can be created,
    or where there is one that is no measurement and ``force`` is not given.
    """
    if path.suffix.lower() not in _FORMATS:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", f"name a file in it: {path / 'bench.json'}")
        raise UsageError(
            f"{path.name!r} does not say which format to write",
            f"end it in {', '.join(_FORMATS)}",
        )
    check_target(path)
    check_replaceable(path, DATA, force=force)


def write_data(measurement: Measurement, path: Path, *, force: bool = False) -> None:
    """Write everything that was measured to ``path``, which appears whole or not at all.

    Raises OutputError where it cannot be written, as :func:`check_data_path` does.
    """
    data = _FORMATS[path.suffix.lower()](measurement)
    with Publication(force=force) as publication, writing(path):
        publication.create(path, DATA).write(data)
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
    """The measurement in a JSON file. Raises UsageError for any other file."""
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}",
            "name a JSON file that batchdigit bench wrote",
        ) from error
    except ValueError as error:  # a null byte in its name
        raise _refused(path, str(error)) from error
    if data is None:
        raise _refused(path, f"it has more than {MAX_BYTES:,} bytes")
    try:
        return measurement_from(json.loads(data, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as error:
        raise _refused(path, str(error)) from error


def measurement_from(data: Any) -> Measurement:
    """Undo :meth:`Measurement.as_json`. Raises ValueError, with the place, for other data."""
    if not isinstance(data, dict) or "format" not in data or "points" not in data:
        raise ValueError("it is other JSON data")
    if data["format"] != FORMAT:
        raise ValueError(f"it has format {data['format']!r:.20}, and this version reads {FORMAT}")
    return msgspec.convert(data, Measurement)


def _refused(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"{path} is no measurement: {one_line(reason)}",
        "name a JSON file that this version of batchdigit bench wrote, or measure again",
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} stands where a number should be")
