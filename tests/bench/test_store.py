import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchdigit.bench import store
from batchdigit.bench.measurement import Measurement
from batchdigit.bench.store import check_data_path, measurement_from, read_measurement, write_data
from batchdigit.errors import OutputError, UsageError
from tests.support.measurements import (
    GPU,
    ONNX,
    STEADY,
    TORCH,
    failed_point,
    measurement,
    of_rates,
    point,
    sweep,
)

WHOLE = measurement(
    point(TORCH, (900.0, 1100.0)), point(ONNX, (2000.0,)), failed_point(GPU, "none")
)


@pytest.mark.parametrize("measured", [WHOLE, measurement(), sweep(3, (16, 256), (0, 2))])
def test_measurement_survives_its_file(tmp_path: Path, measured: Measurement) -> None:
    write_data(measured, tmp_path / "bench.json")
    assert read_measurement(tmp_path / "bench.json") == measured


def test_file_that_an_earlier_version_wrote_still_loads() -> None:
    """It was written before msgspec read such files, and its source's name is not UTF-8."""
    path = Path(__file__).parent / "format1.json"
    measured = read_measurement(path)
    data = json.loads(path.read_text())
    assert [one.rate for one in measured.points] == [
        pytest.approx(one["rate"], rel=1e-3) for one in data["points"]
    ]
    assert [one.problem for one in measured.points] == [one["problem"] for one in data["points"]]
    assert measured.source["paths"] == ["sample_images\udcff"]
    written = measured.as_json()
    assert written.keys() == data.keys()
    assert written["points"][0].keys() == data["points"][0].keys()
    assert written["points"][0]["samples"][0].keys() == data["points"][0]["samples"][0].keys()


@pytest.mark.parametrize("name", ["bench.csv", "bench.PARQUET"])
def test_table_has_a_row_for_each_sample(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_data(WHOLE, path)
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(path).to_pylist()
    assert [row["backend"] for row in rows] == ["torch", "torch", "onnxruntime"]
    rates = [float(row["images_per_second"]) for row in rows]
    assert rates == [pytest.approx(rate) for rate in (900, 1100, 2000)]
    assert {str(row["label_flips"]) for row in rows} == {"0"}
    for row in rows:
        stages = [name for name in row if name.startswith("seconds_") and "total" not in name]
        assert sum(float(row[name]) for name in stages) == pytest.approx(
            float(row["seconds_total"]), rel=0.02
        )


def test_nothing_measured_is_a_table_without_rows(tmp_path: Path) -> None:
    write_data(measurement(), tmp_path / "bench.csv")
    assert (tmp_path / "bench.csv").read_text().strip() == ""
    write_data(measurement(), tmp_path / "bench.parquet")
    assert pq.read_table(tmp_path / "bench.parquet").num_rows == 0


def test_name_without_a_format_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'bench.txt' does not say"):
        check_data_path(Path("bench.txt"))


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_data(WHOLE, tmp_path / "missing" / "bench.json")


# --- files that hold no measurement


def refused(path: Path) -> str:
    """The one-line message about a file that holds no measurement."""
    with pytest.raises(UsageError) as caught:
        read_measurement(path)
    message = str(caught.value)
    assert str(path) in message
    assert "batchdigit bench" in caught.value.remedy
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", '"text"', "{}", '{"format": 1}', '{"format": 2, "points": []}',
        '{"format": 1, "points": 3}', '{"format": NaN, "points": []}', "[" * 100_000,
        "9" * 5_000, "\x00", '{"format": "\\ud800", "points": []}',
    ],
)  # fmt: skip
def test_other_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    refused(path)


def test_binary_and_missing_files_and_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(bytes(range(256)))
    refused(path)
    refused(tmp_path / "missing.json")
    refused(tmp_path)


def test_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_BYTES", 100)
    path = tmp_path / "huge.json"
    path.write_text(" " * 101)
    assert "it has more than 100 bytes" in refused(path)


def test_other_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_text(json.dumps(WHOLE.as_json() | {"format": 99}))
    assert "it has format 99, and this version reads 1" in refused(path)


SAMPLE = "points[0].samples[0]"
# A place, the value that is put there, and the place that the message names.
DAMAGES = [
    *(
        (f"{SAMPLE}.images", value, f"{SAMPLE}.images")
        for value in (-1, True, "9", None, 1.5, 10**400, 1 << 63, [])
    ),
    (f"{SAMPLE}.images", 0, SAMPLE),
    *(
        (f"{SAMPLE}.{name}", value, f"{SAMPLE}.{name}")
        for name in ("batch_size", "workers", "threads", "cpu_seconds", "peak_memory", "joules")
        for value in ("many", True, -1)
    ),
    *(
        (f"{SAMPLE}.{name}", value, f"{SAMPLE}.{name}")
        for name in ("seconds", "busy")
        for value in ([], "x", None, {"read": -1}, {"read": False})
    ),
    (f"{SAMPLE}.seconds", {}, SAMPLE),
    *((f"{SAMPLE}.seconds.total", value, SAMPLE) for value in (0, 1e-320)),
    *(
        (f"{SAMPLE}.seconds.total", value, f"{SAMPLE}.seconds")
        for value in (-3, "x", None, 1e300, 10**30, True, [])
    ),
    (f"{SAMPLE}.seconds.import", 1e9, SAMPLE),
    *(("points[0].samples", value, "points[0].samples") for value in ("x", 3, {"a": 1}, None)),
    *(("points[0].samples", value, SAMPLE) for value in ([3], [[]])),
    *(("points[0].setting", value, "points[0].setting") for value in ("x", 3, {}, [], None)),
    *(
        ("points[0].network_rates", value, "points[0].network_rates")
        for value in (["x"], 3, "fast", [None], [True], [-1])
    ),
    ("points[0].parity", {"reference": 3}, "points[0].parity"),
    ("points[0].problem", 3, "points[0].problem"),
    ("points", [None], "points[0]"),
    ("points", ["x"], "points[0]"),
    ("starts", [{"engine": "x", "seconds": []}], "starts[0].seconds"),
    ("starts", 3, "starts"),
    ("started", {}, "started"),
    ("machine", [], "machine"),
    ("versions", {"torch": 3}, "versions"),
    ("best", "torch", "best"),
    ("check", [], "check"),
    ("check.seconds", [], "check.seconds"),
    ("format", True, "format"),
    ("format", 1.0, "format"),
]


def damaged(place: str, value: object) -> Any:
    """The data of a measurement with ``value`` at ``place``."""
    data = json.loads(json.dumps(of_rates(STEADY, STEADY).as_json()))
    *outer, last = place.replace("[", ".").replace("]", "").split(".")
    inner = data
    for name in outer:
        inner = inner[int(name) if name.isdecimal() else name]
    inner[last] = value
    return data


@pytest.mark.parametrize(("place", "value", "named"), DAMAGES)
def test_damaged_measurement_is_refused_by_its_place(
    tmp_path: Path, place: str, value: object, named: str
) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(damaged(place, value)))
    assert f"`$.{named}" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [f"{SAMPLE}.seconds.total", "machine.cores"])
def test_what_is_no_number_is_refused(tmp_path: Path, place: str, value: float) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(damaged(place, value)))
    assert "stands where a number should be" in refused(path)


def test_number_that_is_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(damaged(f"{SAMPLE}.cpu_seconds", 12345)).replace("12345", "1e999"))
    assert f"`$.{SAMPLE}.cpu_seconds" in refused(path)


def test_setting_that_is_in_it_twice_is_refused(tmp_path: Path) -> None:
    data = json.loads(json.dumps(of_rates(STEADY, STEADY).as_json()))
    data["points"].append(data["points"][0])
    path = tmp_path / "twice.json"
    path.write_text(json.dumps(data))
    assert "a setting is in it twice" in refused(path)


PARTS: list[tuple[str, Callable[[Any], Any]]] = [
    *((name, lambda data: data) for name in WHOLE.as_json()),
    *(
        (name, lambda data: data["points"][0])
        for name in WHOLE.as_json()["points"][0]
        if name != "rate"
    ),
    *(
        (name, lambda data: data["points"][0]["samples"][0])
        for name in WHOLE.as_json()["points"][0]["samples"][0]
        if name != "rate"
    ),
]


@pytest.mark.parametrize(("name", "owner"), PARTS)
def test_measurement_without_a_part_is_refused(
    tmp_path: Path, name: str, owner: Callable[[Any], Any]
) -> None:
    data = json.loads(json.dumps(WHOLE.as_json()))
    del owner(data)[name]
    path = tmp_path / "partial.json"
    path.write_text(json.dumps(data))
    refused(path)


def test_numbers_may_be_whole_and_unknown_keys_are_allowed() -> None:
    data = damaged(f"{SAMPLE}.cpu_seconds", 3)
    data["points"][0]["samples"][0]["later"] = data["later"] = ["addition"]
    (first, *_), *_ = (one.samples for one in measurement_from(data).points)
    assert first.cpu_seconds == 3.0


@pytest.mark.parametrize("name", ["bench.json", "bench.csv", "bench.parquet"])
def test_only_measurements_are_replaced(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in (b'{"points": []}', b"started,label\n1,2\n", b"precious"):
        path.write_bytes(content)
        for write in (lambda: check_data_path(path), lambda: write_data(WHOLE, path)):
            with pytest.raises(OutputError, match="not a measurement.*--force"):
                write()
        assert path.read_bytes() == content
    check_data_path(path, force=True)
    write_data(WHOLE, path, force=True)
    check_data_path(path)
    write_data(WHOLE, path)


def test_measurement_of_an_earlier_version_may_be_replaced(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "format1.json", tmp_path / "bench.json")
    check_data_path(tmp_path / "bench.json")
