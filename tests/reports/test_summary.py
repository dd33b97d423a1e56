"""The outcome of a run as JSON data."""

import json
from typing import Any

import pytest

from batchdigit import RunSummary
from batchdigit.errors import ExitCode
from batchdigit.reports.summary import FailedRow, FolderNote
from batchdigit.sources.filelist import FileList


def summary(**others: Any) -> RunSummary:
    values: dict[str, Any] = {
        "found": 10,
        "predicted": 6,
        "reused": 3,
        "failed": 1,
        "resumed": 2,
        "update": {"unchanged": 3, "new": 7},
        "ignored": FileList([b"notes.txt", b"more.txt"]),
        "failures_by_stage": {"decode": 1},
        "first_failures": (FailedRow("a.png", "decode: broken"),),
        "to_review": 4,
        "more_pages": 3,
        "fitted": 5,
        "dark_on_light": 4,
        "faint": 1,
        "notes": (FolderNote("a", 9, "inverted", 9),),
        "seconds": {"read": 1.23456, "total": 4.0},
        "busy": {"network": 2.00004},
        "backend": "torch",
        "device": "cpu",
        "exit_code": ExitCode.BAD_IMAGES,
        "account": {"started": "2026-01-02T03:04:05+00:00", "options": {"topk": 1}},
    }
    return RunSummary(**(values | others))


def test_outcome_is_json_data_with_the_account() -> None:
    data = json.loads(json.dumps(summary().as_json()))
    assert data == {
        "found": 10,
        "predicted": 6,
        "reused": 3,
        "failed": 1,
        "resumed": 2,
        "update": {"unchanged": 3, "new": 7},
        "ignored": 2,
        "left_out": {".txt": 2},
        "failures_by_stage": {"decode": 1},
        "first_failures": [{"filename": "a.png", "error": "decode: broken"}],
        "to_review": 4,
        "more_pages": 3,
        "fitted": 5,
        "dark_on_light": 4,
        "faint": 1,
        "notes": [{"folder": "a", "images": 9, "kind": "inverted", "count": 9}],
        "exit_code": 3,
        "backend": "torch",
        "device": "cpu",
        "images_per_second": 2.5,
        "seconds": {"read": 1.2346, "total": 4.0},
        "busy": {"network": 2.0},
        "started": "2026-01-02T03:04:05+00:00",
        "options": {"topk": 1},
    }


def test_update_is_null_where_nothing_was_updated() -> None:
    assert summary(update=None).as_json()["update"] is None


@pytest.mark.parametrize(("found", "seconds", "rate"), [(10, 4.0, 2.5), (1, 3.0, 1 / 3)])
def test_rate_is_over_all_the_seconds(found: int, seconds: float, rate: float) -> None:
    assert summary(found=found, seconds={"total": seconds}).images_per_second == rate


def test_counts_are_the_outcome_in_a_few_numbers() -> None:
    assert summary().counts() == {
        "found": 10, "predicted": 6, "reused": 3, "failed": 1, "to_review": 4,
        "seconds": 4.0, "images_per_second": 2.5, "exit_code": 3,
    }  # fmt: skip
