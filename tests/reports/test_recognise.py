"""Our reports are told from the files of others."""

import gzip
import io
import json
from pathlib import Path

import pandas
import pytest

from batchdigit import Job, OutputError, run
from batchdigit.reports import recognise
from batchdigit.reports.recognise import ACCOUNT, REPORT, begins_with
from batchdigit.system.replacing import check_replaceable
from tests.support.fakes import opened_then_fifo
from tests.support.reports import FORMATS, predictions_for, written

OURS = ("filename", "prediction", "confidence", "error")
NAMES = [b'a "b", c\\.png', b"b.png", b"c.png"]


def is_ours(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    return begins_with(path, OURS)


@pytest.mark.parametrize("options", [{}, {"topk": 3}, {"labels": tuple("abcdefghij")}])
@pytest.mark.parametrize("failed", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize("extension", FORMATS)
def test_reports_of_every_format_are_ours_whatever_their_name(
    tmp_path: Path, extension: str, failed: tuple[int, ...], options: dict[str, object]
) -> None:
    rows = predictions_for(3, failed, k=3)
    assert is_ours(tmp_path / "out", written(extension, NAMES, rows, **options))


@pytest.mark.parametrize("extension", [name for name in FORMATS if name != "jsonl"])
def test_reports_without_rows_are_ours(tmp_path: Path, extension: str) -> None:
    assert is_ours(tmp_path / "out", written(extension, []))


TABLE = pandas.DataFrame(
    {"filename": ["a.png"], "prediction": [1], "confidence": [0.5], "error": [None]}
)


@pytest.mark.parametrize(
    "data",
    [
        b"filename,prediction,confidence,error\n",  # of the first version, without rows
        b"filename,prediction,confidence,error\r\na.png,1,0.5,\r\n",
        b"\xef\xbb\xbffilename,prediction,confidence,error\n",
        b"filename;prediction;confidence;error\n",
        b'"filename","prediction","confidence","error"\n',
        b'{"filename": "a.png", "prediction": null, "confidence": null, "error": "x"}\n',
        b'{"filename":"a \\"b\\".png","prediction":"one","confidence":0.5,"error":null}\n',
    ],
)
def test_reports_that_went_through_other_programs_are_ours(tmp_path: Path, data: bytes) -> None:
    assert is_ours(tmp_path / "out", data)
    assert is_ours(tmp_path / "out", gzip.compress(data))


def test_parquet_that_pandas_wrote_anew_is_ours(tmp_path: Path) -> None:
    TABLE.to_parquet(tmp_path / "out")
    assert begins_with(tmp_path / "out", OURS)
    TABLE.rename(columns={"prediction": "label"}).to_parquet(tmp_path / "out")
    assert not begins_with(tmp_path / "out", OURS)


def test_parquet_that_a_fifo_takes_the_place_of_is_judged_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    TABLE.to_parquet(path)

    monkeypatch.setattr(recognise, "open_regular", opened_then_fifo)
    assert begins_with(path, OURS)


@pytest.mark.parametrize(
    "data",
    [
        b"filename,label\na.png,1\n",
        b"filename,prediction\na.png,1\n",
        b"filename,prediction,confidences\n",
        b"filename,prediction;confidence\n",
        b"prediction,filename,confidence\n",
        b" filename,prediction,confidence,error\n",
        b"filename,prediction,confidence\n",  # as any program may write it
        b"image,filename,prediction,confidence,error\n",
        b'{"filename": "a.png", "label": 1}\n',
        b'{"filename": "a.png", "prediction": 1, "truth": 1}\n',
        b'[{"filename": "a.png", "prediction": 1, "confidence": 1}]\n',
        b"PAR1 and more",
        b"PAR1",
        b"\x1f\x8b and more",
        b"\x89PNG\r\n\x1a\n",
        b"hello\n",
        b"\0",
    ],
)
def test_other_files_are_not(tmp_path: Path, data: bytes) -> None:
    assert not is_ours(tmp_path / "out", data)
    assert not is_ours(tmp_path / "out", gzip.compress(data))


def test_little_is_read_of_a_file_that_unpacks_to_very_much(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=stream) as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    assert not is_ours(tmp_path / "out", stream.getvalue())


@pytest.mark.parametrize("beside", ["out.csv.run.json", ".out.csv.state"])
def test_account_or_state_beside_a_file_makes_it_ours(
    tmp_path: Path, digits: Path, beside: str
) -> None:
    run(Job((digits,), tmp_path / "out.csv", workers=0))
    for name in {"out.csv.run.json", ".out.csv.state"} - {beside}:
        (tmp_path / name).unlink()
    (tmp_path / "out.csv").write_text("edited beyond recognition")
    check_replaceable(tmp_path / "out.csv", REPORT)
    (tmp_path / beside).unlink()
    with pytest.raises(OutputError, match="not a report"):
        check_replaceable(tmp_path / "out.csv", REPORT)


@pytest.mark.parametrize("text", ["{}", "[]", "hello", json.dumps({"found": 1, "failed": 0})])
def test_other_json_is_no_account(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out.csv.run.json"
    path.write_text(text)
    with pytest.raises(OutputError, match="not the account of a run"):
        check_replaceable(path, ACCOUNT)
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(OutputError, match="not a report"):
        check_replaceable(tmp_path / "out.csv", REPORT)


def test_account_of_the_first_version_is_one(tmp_path: Path) -> None:
    path = tmp_path / "out.csv.run.json"
    path.write_text('{"found": 1, "predicted": 1, "failed": 0, "skipped": 0, "exit_code": 0}')
    check_replaceable(path, ACCOUNT)
