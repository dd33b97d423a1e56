import csv
import gc
import gzip
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from batchdigit import AccountingError, Failure, Job, Predictions, unescape_filename
from batchdigit.batches import Treatment
from batchdigit.job import REVIEW_BELOW
from batchdigit.reports.formats import FORMATS as NAMES
from batchdigit.reports.formats import ReportFormat, choose_format
from batchdigit.reports.table import Layout
from batchdigit.reports.writer import ReportWriter
from batchdigit.sources.filelist import FileList
from tests.sources.test_filenames import ODD_NAMES
from tests.support.samples import facts_of

FORMATS = [*NAMES, *(f"{name}.gz" for name in NAMES if name != "parquet")]
ROOT = b"/"


def predictions_for(
    count: int, failed: tuple[int, ...] = (), start: int = 0, k: int = 1
) -> Predictions:
    """Predictions with the awkward probabilities of a real softmax, and some failures."""
    good = [index for index in range(start, start + count) if index not in failed]
    rng = np.random.default_rng(start)
    probs = -np.sort(-rng.dirichlet(np.full(10, 0.05), len(good)).astype(np.float32), axis=1)
    labels = np.array([rng.permutation(10) for _ in good], dtype=np.int64).reshape(-1, 10)
    return Predictions(
        indices=np.array(good, dtype=np.int64),
        labels=labels[:, :k],
        probs=probs[:, :k],
        failures=tuple(Failure(index, "decode", 'it\'s "bad", really') for index in failed),
    )


def written(extension: str, names: list[bytes], *batches: Predictions, **options: Any) -> bytes:
    job = Job((Path("images"),), Path(f"report.{extension}"), **options)
    layout = Layout(10, topk=job.topk, probs=job.probs, labels=job.labels)
    stream = io.BytesIO()
    with ReportWriter(
        stream, choose_format(job.out, job.format), FileList(names), layout
    ) as report:
        for batch in batches:
            report.write(batch)
        report.finish({"found": len(names)})
    assert report.digest["sha256"] == hashlib.sha256(stream.getvalue()).hexdigest()
    assert report.digest["bytes"] == len(stream.getvalue())
    return stream.getvalue()


def table_rows(extension: str, data: bytes) -> list[dict[str, Any]]:
    """The rows by an independent reader."""
    if extension == "parquet":
        return pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    text = (gzip.decompress(data) if extension.endswith(".gz") else data).decode("utf-8")
    if extension.startswith("jsonl"):
        return [json.loads(line) for line in text.split("\n")[:-1]]
    delimiter = "\t" if extension.startswith("tsv") else ","
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def read_back(extension: str, data: bytes) -> list[dict[str, Any]]:
    """The rows, with the same cells whatever the format."""
    return [
        {name: _cell(name, value) for name, value in row.items()}
        for row in table_rows(extension, data)
    ]


def _cell(name: str, value: Any) -> Any:
    if value in ("", None) or name in ("filename", "error", "polarity"):
        return value or None
    if name in ("needs_review", "fitted"):
        return {"true": True, "false": False}.get(value, value)
    return float(np.float32(value))


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


def row_of(probs: list[float], treatment: Treatment, ink: float) -> dict[str, Any]:
    """The one row of an image, as JSON has it."""
    predictions = Predictions(
        np.array([0]),
        np.arange(len(probs))[None],
        np.array([probs], np.float32),
        facts_of([treatment], [ink]),
    )
    stream = io.BytesIO()
    layout = Layout(10, explain=True, review_below=0.7)
    with ReportWriter(stream, ReportFormat("jsonl"), FileList([b"a.png"]), layout) as report:
        report.write(predictions)
        report.finish({})
    return json.loads(stream.getvalue())


def test_margin_is_how_far_the_likeliest_is_ahead() -> None:
    assert row_of([0.75, 0.125, 0.0625], Treatment.AS_IT_IS, 0.1)["margin"] == 0.625


@pytest.mark.parametrize(
    ("confidence", "treatment", "needs_review"),
    [
        (0.71, Treatment.FITTED, False),
        (0.69, Treatment.FITTED, True),
        (0.99, Treatment.FITTED | Treatment.CROWDED, True),
    ],
)
def test_doubtful_and_crowded_images_need_review(
    confidence: float, treatment: Treatment, needs_review: bool
) -> None:
    assert row_of([confidence, 0.01], treatment, 0.1)["needs_review"] is needs_review


def test_explanation_says_what_was_found() -> None:
    def explained(treatment: Treatment, ink: float) -> list[Any]:
        row = row_of([0.9, 0.1], treatment, ink)
        return [row[name] for name in ("polarity", "fitted", "ink")]

    assert explained(Treatment.FITTED | Treatment.DARK, 0.25) == ["dark on light", True, 0.25]
    assert explained(Treatment.FITTED, 0.25) == ["light on dark", True, 0.25]
    assert explained(Treatment.AS_IT_IS, 0.125) == ["light on dark", False, 0.125]
    assert explained(Treatment.DARK, float("nan")) == ["dark on light", False, None]


@pytest.mark.parametrize("extension", FORMATS)
def test_batches_do_not_show(extension: str) -> None:
    names = [b"%d.png" % number for number in range(6)]
    whole = predictions_for(6)
    parts = [
        Predictions(whole.indices[a:b], whole.labels[a:b], whole.probs[a:b])
        for a, b in ((0, 1), (1, 5), (5, 6))
    ]
    assert written(extension, names, *parts) == written(extension, names, whole)


@pytest.mark.parametrize("extension", FORMATS)
def test_options_add_columns_at_the_end(extension: str) -> None:
    names = [b"0.png", b"1.png", b"2.png"]
    predictions = predictions_for(3, failed=(1,), k=10)
    rows = read_back(extension, written(extension, names, predictions, topk=3, probs=True))
    expected = ["filename", "prediction", "confidence", "error", "margin", "needs_review"]
    expected += ["prediction_2", "confidence_2", "prediction_3", "confidence_3"]
    expected += [f"prob_{digit}" for digit in range(10)]
    assert list(rows[0]) == expected
    assert rows[0]["prediction_3"] == predictions.labels[0, 2]
    assert rows[0]["confidence_3"] == predictions.probs[0, 2]
    for rank in range(10):
        assert rows[2][f"prob_{predictions.labels[1, rank]}"] == predictions.probs[1, rank]
    assert {rows[1][name] for name in expected if name not in ("filename", "error")} == {None}


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


def test_column_order_is_fixed() -> None:
    assert list(Layout(2, topk=2, probs=True).columns) == [
        *("filename", "prediction", "confidence", "error", "margin", "needs_review"),
        *("prediction_2", "confidence_2", "prob_0", "prob_1"),
    ]


NAMES = ("zero", 'one, "1"', "2", "drei\u0301", *"456789")


@pytest.mark.parametrize("extension", FORMATS)
def test_labels_stand_for_the_numbers_of_the_classes(extension: str) -> None:
    names = [b"%d.png" % number for number in range(20)]
    batch = predictions_for(20, failed=(7,), k=10)
    numbers = written(extension, names, batch, topk=3, probs=True)
    words = written(extension, names, batch, topk=3, probs=True, labels=NAMES)
    rows, named = (table_rows(extension, data) for data in (numbers, words))
    assert len(rows) == len(named) == 20
    for row, named_row in zip(rows, named, strict=True):
        for column in ("prediction", "prediction_2", "prediction_3"):
            number = row[column]
            expected = number if number in (None, "") else NAMES[int(number)]
            assert named_row[column] == expected
        for label, name in enumerate(NAMES):
            assert named_row[f"prob_{name}"] == row[f"prob_{label}"]
        for column in ("filename", "confidence", "error"):
            assert named_row[column] == row[column]


def test_parquet_has_text_for_labels() -> None:
    data = written("parquet", [b"a.png"], predictions_for(1), labels=NAMES)
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
    monkeypatch.setattr("batchdigit.reports.formats.PARQUET_ROWS_PER_GROUP", 10)
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


TWO_ZEROS = np.zeros((2, 1), int), np.zeros((2, 1), np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        predictions_for(2, start=1),  # starts too late
        Predictions(np.array([0, 0]), *TWO_ZEROS),
        Predictions(np.array([0, 2]), *TWO_ZEROS),
        Predictions(
            np.array([0]), np.zeros((1, 1), int), np.zeros((1, 1), np.float32),
            failures=(Failure(0, "read", "both predicted and failed"),),
        ),
    ],
)  # fmt: skip
def test_rows_that_do_not_add_up_are_refused(wrong: Predictions) -> None:
    with pytest.raises(AccountingError):
        written("csv", [b"a", b"b", b"c"], wrong)


@pytest.mark.parametrize("extension", FORMATS)
def test_report_that_is_left_unfinished_writes_nothing_more(extension: str) -> None:
    job = Job((Path("images"),), Path(f"report.{extension}"))
    stream = io.BytesIO()
    files = FileList([b"a"])
    with ReportWriter(stream, choose_format(job.out, job.format), files, Layout(10)) as report:
        report.write(predictions_for(1))
    before = stream.getvalue()
    del report
    gc.collect()
    assert stream.getvalue() == before  # which also says that the stream is still open


def test_names_on_disk_reach_the_report(tmp_path: Path) -> None:
    """The names that a file system takes; the reader's own tests go on from here."""
    for name in ODD_NAMES:
        if b"/" not in name and len(name) <= 255:
            with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
                pass
    names = sorted(os.listdir(os.fsencode(tmp_path)))
    rows = read_back("csv", written("csv", names, predictions_for(len(names))))
    for row in rows:
        assert os.path.exists(
            os.path.join(os.fsencode(tmp_path), unescape_filename(row["filename"]))
        )
