"""Every format holds the same cells, whatever is in them."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit import Failure, Job, Predictions, UsageError, run, unescape_filename
from batchdigit.job import REVIEW_BELOW
from batchdigit.reports import formats
from batchdigit.reports.formats import FORMATS as NAMES
from batchdigit.reports.formats import ReportFormat, choose_format
from tests.sources.test_filenames import ODD_NAMES
from tests.support.reports import FORMATS, predictions_for, read_back, written


@pytest.mark.parametrize("extension", FORMATS)
def test_odd_names_survive_a_round_trip(extension: str) -> None:
    data = written(extension, ODD_NAMES, predictions_for(len(ODD_NAMES)))
    found = [unescape_filename(row["filename"]) for row in read_back(extension, data)]
    assert found == ODD_NAMES


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("failed", [(), (0,), (3, 4), tuple(range(7))])
def test_every_format_holds_every_row(extension: str, failed: tuple[int, ...]) -> None:
    names = [b"%d.png" % number for number in range(7)]
    predictions = predictions_for(7, failed)
    rows = read_back(extension, written(extension, names, predictions))
    good = iter(zip(predictions.labels[:, 0], predictions.probs[:, 0], strict=True))
    for number, row in enumerate(rows):
        label, prob = (None, None) if number in failed else next(good)
        assert row == {
            "filename": f"{number}.png",
            "prediction": label,
            "confidence": prob,  # equal to the last bit
            "error": 'decode: it\'s "bad", really' if number in failed else None,
            "margin": prob,  # the only one there is
            "needs_review": None if prob is None else bool(prob < REVIEW_BELOW),
        }
    assert len(rows) == 7


def test_csv_is_what_the_documentation_shows() -> None:
    predictions = Predictions(
        np.array([0, 2]), np.array([[7], [1]]), np.array([[0.5], [1e-7]], dtype=np.float32),
        failures=(Failure(1, "read", "No such file or directory"),),
    )  # fmt: skip
    assert written("csv", [b"a.png", b"b,c.png", b"=d.png"], predictions) == (
        b"filename,prediction,confidence,error,margin,needs_review\n"
        b"a.png,7,0.5,,0.5,true\n"
        b'"b,c.png",,,read: No such file or directory,,\n'
        b"./=d.png,1,1e-07,,1e-07,true\n"
    )


def test_parquet_has_text_for_labels() -> None:
    data = written("parquet", [b"a.png"], predictions_for(1), labels=tuple("abcdefghij"))
    assert str(pyarrow.parquet.read_schema(io.BytesIO(data)).field("prediction").type) == "string"


def test_parquet_has_real_types_and_the_account() -> None:
    data = written("parquet", [b"a.png", b"b.png"], predictions_for(2, failed=(1,)))
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    assert [str(kind) for kind in table.schema.types] == [
        *("string", "int64", "float", "string", "float", "bool")
    ]
    assert table.column("prediction").null_count == 1
    assert table.column("error").to_pylist()[0] is None
    metadata = pyarrow.parquet.read_metadata(io.BytesIO(data)).metadata
    assert json.loads(metadata[b"batchdigit.run"]) == {"found": 2}


def test_parquet_keeps_its_row_groups_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "PARQUET_ROWS_PER_GROUP", 10)
    names = [b"%d.png" % number for number in range(25)]
    data = written("parquet", names, *(predictions_for(1, start=start) for start in range(25)))
    metadata = pyarrow.parquet.read_metadata(io.BytesIO(data))
    assert [metadata.row_group(group).num_rows for group in range(3)] == [10, 10, 5]


@pytest.mark.parametrize("extension", ["csv", "tsv"])
def test_pandas_reads_odd_names_back(extension: str) -> None:
    data = written(extension, ODD_NAMES, predictions_for(len(ODD_NAMES)))
    table = pd.read_csv(
        io.BytesIO(data), sep="\t" if extension == "tsv" else ",", keep_default_na=False
    )
    assert [unescape_filename(name) for name in table["filename"]] == ODD_NAMES


def test_gzipped_report_has_the_same_bytes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = written("csv.gz", [b"a.png"], predictions_for(1))
    monkeypatch.setattr("time.time", lambda: 1.0)
    assert written("csv.gz", [b"a.png"], predictions_for(1)) == first


COLUMNS = {"filename": str, "prediction": int, "confidence": float, "needs_review": bool}
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
ROWS = st.lists(
    st.tuples(
        TEXT.filter(bool),
        st.none() | st.integers(0, 999),
        st.none() | st.floats(0, 1, width=32),
        st.none() | st.booleans(),
    ),
    max_size=5,
)


def table(name: str, parts: list[list[tuple[Any, ...]]], *, gzipped: bool = False) -> bytes:
    """The bytes of a table whose rows come in parts."""
    stream = io.BytesIO()
    table = ReportFormat(name, gzipped).open(stream, COLUMNS)
    for rows in parts:
        columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4
        table.write(dict(zip(COLUMNS, columns, strict=True)))
    table.finish({})
    data = stream.getvalue()
    return gzip.decompress(data) if gzipped else data


@given(ROWS, ROWS)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_delimited_text_is_read_back_by_csv(
    delimiter: str, some: list[tuple[Any, ...]], more: list[tuple[Any, ...]]
) -> None:
    text = table({",": "csv", "\t": "tsv"}[delimiter], [some, more]).decode()
    found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    truth = {True: "true", False: "false", None: ""}
    assert found == [
        list(COLUMNS),
        *(
            [name, *("" if cell is None else repr(cell) for cell in cells), truth[review]]
            for name, *cells, review in [*some, *more]
        ),
    ]


@given(ROWS, ROWS)
def test_json_lines_are_read_back_by_json(
    some: list[tuple[Any, ...]], more: list[tuple[Any, ...]]
) -> None:
    lines = table("jsonl", [some, more]).decode().split("\n")
    assert lines.pop() == ""
    found = [json.loads(line) for line in lines]
    assert [list(row) for row in found] == [list(COLUMNS)] * len(found)
    assert [tuple(row.values()) for row in found] == [*some, *more]


@given(ROWS, ROWS)
def test_parquet_is_read_back_by_pyarrow(
    some: list[tuple[Any, ...]], more: list[tuple[Any, ...]]
) -> None:
    found = pyarrow.parquet.read_table(io.BytesIO(table("parquet", [some, more])))
    assert found.column_names == list(COLUMNS)
    assert [tuple(row.values()) for row in found.to_pylist()] == [*some, *more]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "parquet"])
def test_gzip_changes_no_byte_of_the_text(name: str) -> None:
    rows = [("a.png", 1, 0.5, True), ("b\n.png", None, None, None)]
    assert table(name, [rows], gzipped=True) == table(name, [rows])


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("a.csv", ReportFormat("csv")),
        ("a.CSV", ReportFormat("csv")),
        ("a.tsv", ReportFormat("tsv")),
        ("a.parquet", ReportFormat("parquet")),
        ("a.jsonl", ReportFormat("jsonl")),
        ("a.csv.gz", ReportFormat("csv", gzipped=True)),
        ("a.b.jsonl.gz", ReportFormat("jsonl", gzipped=True)),
        ("-", ReportFormat("csv")),
    ],
)
def test_format_follows_the_extension(out: str, expected: ReportFormat) -> None:
    assert choose_format(Path(out), None) == expected


def test_given_format_overrides_the_extension() -> None:
    assert choose_format(Path("a.txt"), "tsv") == ReportFormat("tsv")
    assert choose_format(Path("a.csv"), "jsonl") == ReportFormat("jsonl")
    assert choose_format(Path("-"), "jsonl") == ReportFormat("jsonl")
    assert choose_format(Path("a.txt.gz"), "csv") == ReportFormat("csv", gzipped=True)


@pytest.mark.parametrize("out", ["a", "a.xlsx", "a.gz", "a.parquet.gz"])
def test_extension_that_says_no_format_is_an_error(out: str) -> None:
    with pytest.raises(UsageError):
        choose_format(Path(out), None)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("name", ["csv", "tsv"])
def test_mark_for_excel_is_the_only_difference(name: str, gzipped: bool) -> None:
    tables = {}
    for bom in (False, True):
        stream = io.BytesIO()
        table = ReportFormat(name, gzipped, bom).open(stream, {"filename": str})
        table.write({"filename": ["ü.png"]})
        table.finish({})
        data = stream.getvalue()
        tables[bom] = gzip.decompress(data) if gzipped else data
    assert tables[True] == b"\xef\xbb\xbf" + tables[False]
    assert tables[False] == "filename\nü.png\n".encode()


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_mark_for_excel_is_for_what_excel_opens(name: str) -> None:
    with pytest.raises(
        UsageError, match=f"--bom is for csv and tsv.* not for {name}; leave it off"
    ):
        choose_format(Path(f"a.{name}"), None, bom=True)


def test_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path} is a folder; name a file in it: {tmp_path}/"):
        choose_format(tmp_path, None)


@pytest.mark.parametrize(
    ("out", "name"), [("report.xls", None), ("report.csv", "xml"), ("-", "xlsx")]
)
def test_format_that_does_not_exist_is_an_error(out: str, name: str | None) -> None:
    with pytest.raises(UsageError, match="csv, "):
        choose_format(Path(out), name)
    with pytest.raises(UsageError, match="csv, "):
        ReportFormat("xml")


def test_run_finds_out_before_it_does_anything(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which format"):
        run(Job((tmp_path / "missing",), tmp_path / "report.xls"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_cell_is_one_cell_whatever_delimiter_its_reader_expects(form: str, delimiter: str) -> None:
    """Otherwise what follows the delimiter is a cell of its own, which may be a formula."""
    name = f"a{delimiter}=1+1.png"
    stream = io.BytesIO()
    table = ReportFormat(form).open(stream, {"filename": str, "prediction": int})
    table.write({"filename": [name], "prediction": [1]})
    table.finish({})
    (_, row) = csv.reader(io.StringIO(stream.getvalue().decode()), delimiter=delimiter)
    assert not any(cell.startswith("=") for cell in row)
    assert f'"{name}"' in stream.getvalue().decode()
