"""``--update``: what has not changed is not predicted again."""

import logging
import os
import time
from collections.abc import Iterable
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchdigit import Failure, Job, OutputError, Predictions, RunSummary, run
from batchdigit.backends.onnx_backend import OnnxPredictor
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.batches import Batch
from batchdigit.images import decoders
from batchdigit.resume import last_report
from batchdigit.resume.update import merge
from batchdigit.sources import folder as folders
from tests.support.fakes import refuse_to_read
from tests.support.samples import age


def update(out: Path, folder: Path, **options: object) -> RunSummary:
    return run(Job((folder,), out, update=True, workers=0, **options))  # type: ignore[arg-type]


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were computed."""
    sizes: list[int] = []
    for predictor in (Predictor, OnnxPredictor):
        predict = predictor.predict

        def counting(self: Any, batches: Iterable[Batch], predict: Any = predict) -> Any:
            return predict(self, (sizes.append(len(batch)) or batch for batch in batches))  # type: ignore[func-returns-value]

        monkeypatch.setattr(predictor, "predict", counting)
    return sizes


@pytest.mark.parametrize("extension", ["csv", "jsonl", "csv.gz", "tsv"])
def test_unchanged_folder_predicts_nothing_and_gives_the_same_bytes(
    tmp_path: Path, digits: Path, predicted: list[int], extension: str
) -> None:
    (digits / "03.png").write_bytes(b"damaged")
    age(digits / "03.png")
    out = tmp_path / f"out.{extension}"
    run(Job((digits,), out, topk=2, batch_size=4))
    whole = out.read_bytes()
    assert sum(predicted) == 9
    predicted.clear()
    for _ in range(2):
        summary = update(out, digits, topk=2)
        assert out.read_bytes() == whole
    assert predicted == []
    assert (summary.predicted, summary.reused, summary.failed) == (0, 9, 1)
    assert summary.exit_code == 3
    assert summary.update == {"unchanged": 10, "new": 0, "changed": 0, "gone": 0, "retried": 0}


def test_parquet_has_the_same_rows(tmp_path: Path, digits: Path, predicted: list[int]) -> None:
    out = tmp_path / "out.parquet"
    update(out, digits, probs=True)
    whole = pyarrow.parquet.read_table(out)
    predicted.clear()
    update(out, digits, probs=True)
    assert predicted == []
    assert pyarrow.parquet.read_table(out).equals(whole)


def test_new_changed_and_gone_files(tmp_path: Path, digits: Path, predicted: list[int]) -> None:
    out = tmp_path / "out.csv"
    update(out, digits)
    predicted.clear()
    (digits / "02.png").unlink()
    os.replace(digits / "03.png", digits / "07.png")  # its time or its size differs
    age(digits / "07.png", hours=2)
    (digits / "00a.png").write_bytes((digits / "00.png").read_bytes())
    (digits / "zz.png").write_bytes(b"damaged")
    summary = update(out, digits)
    assert summary.update == {"unchanged": 7, "new": 2, "changed": 1, "gone": 2, "retried": 0}
    assert (summary.predicted, summary.reused, summary.failed) == (2, 7, 1)
    assert sum(predicted) == 2
    updated = out.read_text()
    run(Job((digits,), out, workers=0))

    def coarse(text: str) -> list[tuple[str, ...]]:
        rows = [line.split(",") for line in text.splitlines()[1:]]
        return [(row[0], row[1], row[2][:6], *row[3:]) for row in rows]

    assert coarse(out.read_text()) == coarse(updated)


def test_file_whose_content_changed_unseen_by_size_is_predicted_again(
    tmp_path: Path, digits: Path, predicted: list[int]
) -> None:
    out = tmp_path / "out.csv"
    update(out, digits)
    status = (digits / "05.png").stat()
    os.utime(digits / "05.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    predicted.clear()
    assert update(out, digits).update["changed"] == 1  # type: ignore[index]
    assert predicted == [1]


def test_file_modified_a_moment_ago_is_not_trusted(
    tmp_path: Path, digits: Path, predicted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could change again within the same tick of the clock."""
    out = tmp_path / "out.csv"
    os.utime(digits / "05.png")
    update(out, digits)
    predicted.clear()
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(folders.time, "time_ns", lambda: later)
    assert update(out, digits).update["changed"] == 1  # type: ignore[index]
    assert predicted == [1]
    predicted.clear()
    assert update(out, digits).update["changed"] == 0  # type: ignore[index]
    assert predicted == []


def test_error_rows_stay_until_they_are_retried(tmp_path: Path, digits: Path) -> None:
    good = (digits / "03.png").read_bytes()
    (digits / "03.png").write_bytes(b"\0" * len(good))
    age(digits / "03.png")
    status = (digits / "03.png").stat()
    out = tmp_path / "out.csv"
    assert update(out, digits).failed == 1
    (digits / "03.png").write_bytes(good)
    os.utime(digits / "03.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert update(out, digits).failed == 1
    summary = update(out, digits, retry_errors=True)
    assert summary.failed == 0
    assert summary.update == {"unchanged": 9, "new": 0, "changed": 0, "gone": 0, "retried": 1}


def test_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of permissions leaves no trace in size and time."""
    out = tmp_path / "out.csv"

    with monkeypatch.context() as patch:
        refuse_to_read(patch)
        assert update(out, digits).failures_by_stage == {"read": 10}
    summary = update(out, digits)
    assert (summary.predicted, summary.failed) == (10, 0)
    assert summary.update == {"unchanged": 0, "new": 0, "changed": 0, "gone": 0, "retried": 10}


def test_file_that_nothing_could_decode_is_tried_again(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder may have been installed."""
    out = tmp_path / "out.csv"
    Image.open(digits / "03.png").save(digits / "03.webp")
    age(digits / "03.webp")
    with monkeypatch.context() as patch:
        patch.setattr(decoders, "_has", lambda _feature: False)
        assert update(out, digits).failures_by_stage == {"unsupported": 1}
    summary = update(out, digits)
    assert summary.failed == 0
    assert summary.update == {"unchanged": 10, "new": 0, "changed": 0, "gone": 0, "retried": 1}


def test_edited_report_is_noticed_and_not_trusted(
    tmp_path: Path, digits: Path, predicted: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.csv"
    update(out, digits)
    whole = out.read_text()
    predicted.clear()
    out.write_text(whole.replace("00.png,", "00.png,9"))
    update(out, digits)
    assert f"{out} was edited since it was published" in caplog.text
    assert out.read_text() == whole
    assert predicted == []


def test_deleted_report_is_not_called_edited(
    tmp_path: Path, digits: Path, predicted: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out.csv"
    update(out, digits)
    whole = out.read_text()
    predicted.clear()
    out.unlink()
    update(out, digits)
    assert f"{out} was deleted since it was published" in caplog.text
    assert "edited" not in caplog.text
    assert out.read_text() == whole
    assert predicted == []


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_damaged_state_is_not_used(
    tmp_path: Path, digits: Path, predicted: list[int],
    caplog: pytest.LogCaptureFixture, damage: str,
) -> None:  # fmt: skip
    out = tmp_path / "out.csv"
    update(out, digits)
    whole = out.read_bytes()
    state = tmp_path / ".out.csv.state"
    data = state.read_bytes()
    changed = {
        "cut": data[:-1], "flip": data[:100] + bytes([data[100] ^ 1]) + data[101:],
        "empty": b"", "text": b"hello",
    }  # fmt: skip
    state.write_bytes(changed[damage])
    predicted.clear()
    update(out, digits)
    assert "is damaged" in caplog.text
    assert sum(predicted) == 10
    assert out.read_bytes() == whole


def test_state_that_is_damaged_during_the_run_is_an_error(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_report, "VALUES_IN_A_BLOCK", 1)  # a block for each batch
    out = tmp_path / "out.csv"
    run(Job((digits,), out, workers=0, batch_size=2))
    whole = out.read_bytes()
    (digits / "00.png").write_bytes((digits / "01.png").read_bytes())

    def damage(_done: int, _failed: int, _found: int) -> None:
        os.truncate(tmp_path / ".out.csv.state", 100)

    with pytest.raises(OutputError, match="changed or removed during"):
        run(
            Job((digits,), out, update=True, workers=0, batch_size=2),
            on_progress=damage,
        )
    assert out.read_bytes() == whole


def test_report_behind_a_link_is_updated(
    tmp_path: Path, digits: Path, predicted: list[int]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "out.csv")
    for _ in range(2):
        update(tmp_path / "link.csv", digits)
    assert sum(predicted) == 10
    assert sorted(os.listdir(tmp_path)) == ["digits", "link.csv", "real"]
    assert sorted(os.listdir(tmp_path / "real")) == [
        ".out.csv.state",
        "out.csv",
        "out.csv.run.json",
    ]


def test_first_update_predicts_everything(
    tmp_path: Path, digits: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert update(tmp_path / "out.csv", digits).predicted == 10
    assert "no report to update" in caplog.text


def rows(indices: list[int], mark: int) -> Predictions:
    """Rows of files, every third of which failed; ``mark`` tells where they come from."""
    right = [index for index in indices if index % 3]
    return Predictions(
        indices=np.array(right, dtype=np.int64),
        labels=np.full((len(right), 1), mark, dtype=np.int64),
        probs=np.full((len(right), 1), mark, dtype=np.float32),
        failures=tuple(Failure(index, "x", str(mark)) for index in indices if not index % 3),
    )


def chunks(indices: list[int], cuts: list[int]) -> list[list[int]]:
    edges = [0, *sorted(cut % (len(indices) + 1) for cut in cuts), len(indices)]
    return [indices[start:end] for start, end in pairwise(edges)]


@given(
    origins=st.lists(st.booleans(), max_size=40),
    cuts=st.lists(st.integers(0, 100), max_size=6),
    other_cuts=st.lists(st.integers(0, 100), max_size=6),
)
def test_merged_rows_follow_one_another_and_keep_their_content(
    origins: list[bool], cuts: list[int], other_cuts: list[int]
) -> None:
    reused = [index for index, is_reused in enumerate(origins) if is_reused]
    fresh = [index for index, is_reused in enumerate(origins) if not is_reused]
    # Batches are never empty; blocks may be, once rows are left out of them.
    merged = list(
        merge(
            (rows(part, 1) for part in chunks(reused, cuts)),
            (rows(part, 2) for part in chunks(fresh, other_cuts) if part),
        )
    )
    place = 0
    for part in merged:
        here = sorted(chain(part.indices.tolist(), (failure.index for failure in part.failures)))
        assert here == list(range(place, place + part.rows))
        place += part.rows
        for index, label in zip(part.indices.tolist(), part.labels[:, 0].tolist(), strict=True):
            assert label == (1 if origins[index] else 2)
        for failure in part.failures:
            assert failure.message == ("1" if origins[failure.index] else "2")
    assert place == len(origins)
