import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchdigit.bench.measurement import Measurement
from batchdigit.bench.store import check_data_path, write_data
from batchdigit.errors import OutputError, UsageError
from tests.support.measurements import GPU, ONNX, TORCH, measurement, point

WHOLE = measurement(
    point(TORCH, (900.0, 1100.0)), point(ONNX, (2000.0,)), point(GPU, (), problem="none")
)


def test_json_holds_everything(tmp_path: Path) -> None:
    write_data(WHOLE, tmp_path / "bench.json")
    assert Measurement.from_json(json.loads((tmp_path / "bench.json").read_text())) == WHOLE


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
    write_data(measurement(), tmp_path / "bench.parquet")
    assert pq.read_table(tmp_path / "bench.parquet").num_rows == 0


def test_name_without_a_format_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'bench.txt' does not say"):
        check_data_path(Path("bench.txt"))


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_data(WHOLE, tmp_path / "missing" / "bench.json")
