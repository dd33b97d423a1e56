"""Predictions become rows: one for each file, in order, with the cells of the layout."""

import io
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit import AccountingError, Failure, Predictions
from batchdigit.batches import Batch, Treatment
from batchdigit.reports.formats import ReportFormat
from batchdigit.reports.table import Layout, Tabulator, needs_review
from batchdigit.reports.writer import ReportWriter
from batchdigit.sources.filelist import FileList
from tests.support.reports import FORMATS, predictions_for, read_back, table_rows, written
from tests.support.samples import facts_of


def row_of(probs: list[float], treatment: Treatment, ink: float) -> dict[str, Any]:
    """The one row of an image, read from JSON."""
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
        (0.99, Treatment.MORE_PAGES, True),
    ],
)
def test_what_is_doubtful_or_not_all_that_there_is_needs_review(
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


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("labels", [(), ("cat", "dog")])
def test_columns_have_types(labels: tuple[str, ...], explain: bool) -> None:
    columns = Layout(2, topk=2, probs=True, labels=labels, explain=explain).columns
    names = labels or ("0", "1")
    prediction = str if labels else int
    assert columns == {
        "filename": str,
        "prediction": prediction,
        "confidence": float,
        "error": str,
        "margin": float,
        "needs_review": bool,
        "prediction_2": prediction,
        "confidence_2": float,
        **{f"prob_{name}": float for name in names},
        **({"polarity": str, "fitted": bool, "ink": float} if explain else {}),
    }


@given(st.floats(0, 1, width=32, exclude_min=True))
def test_probability_is_the_shortest_decimal_of_its_float32(prob: float) -> None:
    predictions = Predictions(np.array([0]), np.array([[3]]), np.array([[prob]], np.float32))
    tabulator = Tabulator(FileList([b"a"]), Layout(10))
    (cell,) = tabulator.tabulate(predictions)["confidence"]
    assert np.float32(cell) == np.float32(prob)
    assert float(np.format_float_scientific(np.float32(prob), unique=True)) == cell


@given(st.lists(st.booleans(), max_size=20), st.lists(st.integers(0, 20), max_size=3))
def test_there_is_a_row_for_each_file_however_they_come(
    failed: list[bool], cuts: list[int]
) -> None:
    names = [b"%d.png" % number for number in range(len(failed))]
    tabulator = Tabulator(FileList(names), Layout(10))
    edges = [0, *sorted(min(cut, len(failed)) for cut in cuts), len(failed)]
    filenames: list[str] = []
    errors: list[str | None] = []
    for start, end in pairwise(edges):
        bad = tuple(index for index in range(start, end) if failed[index])
        columns = tabulator.tabulate(predictions_for(end - start, bad, start))
        filenames += columns["filename"]
        errors += columns["error"]
        assert [cell is None for cell in columns["prediction"]] == failed[start:end]
        assert tabulator.rows == end
    assert filenames == [name.decode() for name in names]
    assert [error is not None for error in errors] == failed


def test_review_is_needed_below_a_confidence_or_of_a_crowd() -> None:
    predictions = Predictions(
        indices=np.arange(4),
        labels=np.zeros((4, 1), np.int64),
        probs=np.array([[0.9], [0.5], [0.49], [0.9]], np.float32),
        facts=facts_of([0, 0, 0, Treatment.CROWDED], [0.0] * 4),
    )
    assert needs_review(predictions, 0.5).tolist() == [False, False, True, True]


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
@pytest.mark.parametrize("start", ["=1+1", " @x", "\uff1d1"])
def test_error_cannot_be_split_into_a_formula(delimiter: str, start: str) -> None:
    text = f"chunk a{delimiter}{start}"
    failed = Batch.failed(Failure(0, "decode", text))
    predictions = Predictions.of(
        failed, np.zeros((0, 2), np.int64), np.zeros((0, 2), np.float32), {}
    )
    rows = Tabulator(FileList([b"a.png"]), Layout(10)).tabulate(predictions)
    assert rows["error"] == [f"decode: chunk a {start}"]
