from pathlib import Path

import pytest

from batchdigit import Job, Tolerance, UsageError
from batchdigit.training.job import TrainJob

SOURCE = (Path("images"),)


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("a.csv", ("csv", False)),
        ("a.CSV", ("csv", False)),
        ("a.tsv", ("tsv", False)),
        ("a.parquet", ("parquet", False)),
        ("a.jsonl", ("jsonl", False)),
        ("a.csv.gz", ("csv", True)),
        ("a.b.jsonl.gz", ("jsonl", True)),
        ("-", ("csv", False)),
    ],
)
def test_format_follows_the_extension(out: str, expected: tuple[str, bool]) -> None:
    assert Job(SOURCE, Path(out)).report_format == expected


def test_given_format_overrides_the_extension() -> None:
    assert Job(SOURCE, Path("a.txt"), format="tsv").report_format == ("tsv", False)
    assert Job(SOURCE, Path("a.csv"), format="jsonl").report_format == ("jsonl", False)
    assert Job(SOURCE, Path("-"), format="jsonl").report_format == ("jsonl", False)
    assert Job(SOURCE, Path("a.txt.gz"), format="csv").report_format == ("csv", True)


@pytest.mark.parametrize("out", ["a", "a.xlsx", "a.gz", "a.parquet.gz"])
def test_extension_that_says_no_format_is_an_error(out: str) -> None:
    with pytest.raises(UsageError):
        Job(SOURCE, Path(out))


@pytest.mark.parametrize(
    "options",
    [
        {"source": ()},
        {"topk": 0},
        {"batch_size": 0},
        {"batch_size": 10**20},
        {"device": "tpu"},
        {"out": Path("report.xls")},
        {"workers": -1},
        {"format": "xml"},
        {"precision": "fp8"},
        {"start_method": "thread"},
    ],
)
def test_senseless_option_is_an_error(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Job(**({"source": SOURCE} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "failed", "found", "allowed"),
    [
        ("0", 0, 10, True),
        ("0", 1, 10, False),
        ("3", 3, 10, True),
        ("3", 4, 10, False),
        ("10%", 1, 10, True),
        ("10%", 2, 10, False),
        ("0.5%", 1, 200, True),
        ("0.5%", 1, 199, False),
        ("100%", 10, 10, True),
        ("32.3%", 323, 1000, True),
        ("32.3%", 324, 1000, False),
    ],
)
def test_tolerance(text: str, failed: int, found: int, allowed: bool) -> None:
    assert Tolerance.parse(text).allows(failed, found) is allowed
    assert Tolerance.parse(str(Tolerance.parse(text))) == Tolerance.parse(text)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "101%", "%", "5 %", "1e3"])
def test_senseless_tolerance_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="max-bad"):
        Tolerance.parse(text)


def test_training_on_variants_takes_fitting() -> None:
    with pytest.raises(UsageError, match="--variants 0"):
        TrainJob(Path("data"), Path("CNN.pt"), preprocess="exact")
    TrainJob(Path("data"), Path("CNN.pt"), preprocess="exact", variants=0)
