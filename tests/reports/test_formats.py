from pathlib import Path

import pytest

from batchdigit import Job, UsageError, run
from batchdigit.reports.formats import ReportFormat, choose_format


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
