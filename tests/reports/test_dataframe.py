"""A report that is read is what ``predict`` gives, whatever its format, names and labels."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import batchdigit
from batchdigit import Job, SourceError, predict, read_report, run
from batchdigit.reports import dataframe
from batchdigit.reports.dataframe import data_frame
from batchdigit.reports.formats import FORMATS
from tests.support.fakes import opened_then_fifo

NAMES = [*FORMATS, "csv.gz", "tsv.gz", "jsonl.gz"]
ODD = [
    b"NA.png", b"null.png", b"nan.png", b"=1.png", b'a"b.png', b"a,b\tc;d.png", b"two\nlines.png",
    b"return\r.png", b"\xff.png", b"\\x5c.png", "é中.png".encode(), b"007.png", b" .png",
]  # fmt: skip
LABELS = {
    "none": (),
    "names": ("NA", "null", "nan", "True", "1.0", "six", "<NA>", "#N/A", "None", "n.a."),
    "like numbers": ("007", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    "numbers": ("9", "8", "7", "6", "5", "4", "3", "2", "1", "0"),
}


@pytest.fixture
def odd(digits: Path) -> Path:
    """Digits with odd names, an hour old, one of them damaged."""
    paths = sorted(digits.iterdir())
    for number, name in enumerate(ODD):
        os.link(paths[number % len(paths)], os.path.join(os.fsencode(digits), name))
    (digits / "null").mkdir()
    (digits / "null" / "torn.png").write_bytes(b"torn")
    return digits


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", NAMES)
def test_report_is_what_predict_gives(odd: Path, tmp_path: Path, name: str, labels: str) -> None:
    options: dict[str, Any] = {"topk": 2, "probs": True, "explain": True, "workers": 0}
    options["labels"] = LABELS[labels]
    out = tmp_path / f"preds.{name}"
    run(Job(odd, out, max_bad=9, **options))
    expected = predict(odd, **options)
    assert expected["error"].notna().sum() == 1
    assert_frame_equal(read_report(out), expected, check_exact=True)
    files = [batchdigit.unescape_filename(cell) for cell in read_report(out)["filename"]]
    assert set(ODD) <= set(files)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("broken", [[], ["00.png"], "all"], ids=["none", "one", "all"])
def test_types_do_not_depend_on_error_rows(
    digits: Path, tmp_path: Path, name: str, broken: Any
) -> None:
    for path in digits.iterdir():
        if broken == "all" or path.name in broken:
            path.write_bytes(b"torn")
    run(Job(digits, tmp_path / f"preds.{name}", max_bad="100%", workers=0))
    table = read_report(str(tmp_path / f"preds.{name}"))
    assert {column: str(dtype) for column, dtype in table.dtypes.items()} == {
        "filename": "string", "prediction": "Int64", "confidence": "float32", "error": "string",
        "margin": "float32", "needs_review": "boolean",
    }  # fmt: skip
    assert_frame_equal(table, predict(digits, workers=0), check_exact=True)


def test_parquet_tells_pandas_its_types(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "preds.parquet"
    for labels in LABELS.values():
        run(Job(odd, out, max_bad=9, explain=True, workers=0, labels=labels))
        expected = predict(odd, explain=True, workers=0, labels=labels)
        assert_frame_equal(pd.read_parquet(out), expected, check_exact=True)


def test_labels_that_are_numbers_are_told_by_the_account(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    run(Job(digits, out, labels=LABELS["numbers"], workers=0))
    assert str(read_report(out)["prediction"].dtype) == "string"
    text = out.read_text()
    out.write_text(text.replace("00.png", "xx.png"))  # it is not the account's report any more
    assert str(read_report(out)["prediction"].dtype) == "Int64"
    (tmp_path / "preds.csv.run.json").write_text("{")
    assert str(read_report(out)["prediction"].dtype) == "Int64"


def test_columns_and_marks_that_others_add_do_not_matter(digits: Path, tmp_path: Path) -> None:
    """A byte order mark, CRLF, a column of one's own: what spreadsheets and people do."""
    out = tmp_path / "preds.csv"
    run(Job(digits, out, workers=0))
    first, *rows = out.read_text().splitlines()
    out.write_text(
        "\ufeff" + "\r\n".join([f"{first},truth", *(f"{row},7" for row in rows), ""]), newline=""
    )
    table = read_report(out)
    assert table.pop("truth").tolist() == [7] * 10
    assert_frame_equal(table, predict(digits, workers=0), check_exact=True)


HEADER = "filename,prediction,confidence,error,margin,needs_review\n"


@pytest.mark.parametrize(
    ("name", "data", "rows"),
    [
        ("preds.csv", HEADER.encode(), 0),
        ("preds.csv.gz", gzip.compress(HEADER.encode(), mtime=0), 0),
        ("preds.jsonl", b"", 0),
        ("preds.jsonl.gz", gzip.compress(b"", mtime=0), 0),
        ("preds", HEADER.encode() + b"1.png,3,0.5,,0.4,true\n", 1),
    ],
)
def test_report_without_rows_or_ending_is_one(
    tmp_path: Path, name: str, data: bytes, rows: int
) -> None:
    (tmp_path / name).write_bytes(data)
    table = read_report(tmp_path / name)
    assert len(table) == rows
    assert ",".join(table.columns) + "\n" == HEADER
    assert str(table["prediction"].dtype) == "Int64"


def spoilt(data: bytes) -> dict[str, bytes]:
    return {"cut": data[: len(data) * 2 // 3], "short": data[:-1], "other": b"x" + data[1:]}


@pytest.mark.parametrize("how", ["cut", "short", "other"])
@pytest.mark.parametrize("name", NAMES)
def test_file_that_is_damaged_is_one_line_with_its_name(
    digits: Path, tmp_path: Path, name: str, how: str
) -> None:
    out = tmp_path / f"preds.{name}"
    run(Job(digits, out, workers=0))
    out.write_bytes(spoilt(out.read_bytes())[how])
    with pytest.raises(SourceError) as caught:
        read_report(out)
    assert str(out) in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["preds.csv", "preds.jsonl"])
def test_copy_that_ends_between_two_rows_is_not_taken_for_the_whole(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    out = tmp_path / name
    run(Job(digits, out, workers=0))
    whole = len(read_report(out))
    assert caplog.text == ""
    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:-3]))
    assert len(read_report(out)) == whole - 3
    assert f"{name} has {whole - 3} rows, but {out}.run.json tells of {whole}" in caplog.text
    caplog.clear()
    out.rename(tmp_path / f"other.{name}")  # of which nothing is known
    read_report(tmp_path / f"other.{name}")
    assert caplog.text == ""


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"a,b\n1,2\n", b"\xff\xfe\x00", b'{"a": 1}\n', b"[1]\n",
        b"\x1f\x8bx", b"PAR1x",
        HEADER.encode() + b"1.png,3,0.5\n",
        HEADER.encode() + b"1.png,3,0.5,,0.4,true,5\n",
        HEADER.encode() + b"1.png,3,half,,0.4,true\n",
        HEADER.encode() + b"1.png,3,0.5,,0.4,perhaps\n",
        HEADER.encode() + b"1.png,,,,,\n",
        HEADER.encode() + b'"1.png\n',
        HEADER.encode() + b"\xff.png,3,0.5,,0.4,true\n",
        b'{"filename": "1.png", "prediction": [1], "confidence": 0.5, "error": null}\n',
        b'{"filename": "1.png", "prediction": 1, "confidence": 0.5, "error": null}\n{}\n',
    ],
)  # fmt: skip
def test_other_files_are_no_reports(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "preds.csv").write_bytes(data)
    with pytest.raises(SourceError, match="preds.csv is not a whole report: .*; give") as caught:
        read_report(tmp_path / "preds.csv")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"missing.csv: No such file.*; give"):
        read_report(tmp_path / "missing.csv")
    with pytest.raises(SourceError, match="a folder"):
        read_report(tmp_path)
    os.mkfifo(tmp_path / "fifo.csv")
    with pytest.raises(SourceError, match="a FIFO"):
        read_report(tmp_path / "fifo.csv")
    with pytest.raises(batchdigit.UsageError, match="the report"):
        read_report(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["preds.csv", "preds.csv.gz", "preds.jsonl"])
def test_report_that_a_fifo_takes_the_place_of_is_read_to_the_end(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    labels = tuple(map(str, range(10)))
    out = tmp_path / name
    run(Job(digits, out, labels=labels, workers=0))
    expected = predict(digits, labels=labels, workers=0)

    monkeypatch.setattr(dataframe, "open_regular", opened_then_fifo)
    assert_frame_equal(read_report(out), expected)


def test_account_of_json_does_not_matter_where_types_are_written(
    digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "preds.jsonl"
    run(Job(digits, out, labels=LABELS["numbers"], workers=0))
    (tmp_path / "preds.jsonl.run.json").unlink()
    assert read_report(out)["prediction"].tolist() == [
        json.loads(line)["prediction"] for line in out.read_text().splitlines()
    ]


def test_frame_of_no_rows_has_the_types_of_its_columns() -> None:
    table = data_frame([], {"a": str, "b": int, "c": float, "d": bool})
    assert list(map(str, table.dtypes)) == ["string", "Int64", "float32", "boolean"]
