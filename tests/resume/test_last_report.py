"""The state of a report: what was published comes back, and nothing that is damaged does."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from batchdigit.batches import Predictions, join_predictions
from batchdigit.resume import last_report
from batchdigit.resume.frames import DamagedFrameError
from batchdigit.resume.last_report import State, StateWriter, read_state
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps
from tests.support.rows import Row, assert_same, predictions_of

NAMES = [b"a.png", b"b/\xff.png", b"b/c.png", b"d.png", b"e.png", b"f.png"]
ROWS = [Row(index, 10 * index, failed=index in (1, 4)) for index in range(len(NAMES))]
STAMPS = Stamps(np.arange(6) * 100, np.arange(6) * 10**18)
BINDING = {"model": "abc", "limits": [1, 2.5, True]}
REPORT = {"bytes": 12, "sha256": "d" * 64}


def write(path: Path, parts: list[Predictions]) -> None:
    with open(path, "wb") as stream:
        writer = StateWriter(stream)
        for part in parts:
            writer.write(part)
        writer.finish(FileList(NAMES), STAMPS, BINDING, REPORT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state whose rows came in three batches."""
    write(tmp_path / "state", [predictions_of(ROWS[i : i + 2]) for i in (0, 2, 4)])
    return tmp_path / "state"


def state_at(path: Path) -> State:
    state = read_state(path)
    assert state is not None
    return state


def rows_of(state: State, index_of: list[int]) -> Predictions:
    return join_predictions(list(state.rows(np.array(index_of, np.int64))))


def test_state_comes_back(path: Path) -> None:
    state = state_at(path)
    assert list(state.files) == NAMES
    assert state.stamps.equals(STAMPS).all()
    assert state.failed.tolist() == [False, True, False, False, True, False]
    assert (state.binding, state.report) == (BINDING, REPORT)
    assert_same(rows_of(state, [0, 1, 2, 3, 4, 5]), predictions_of(ROWS))


def test_rows_get_new_numbers_or_are_left_out(path: Path) -> None:
    rows = rows_of(state_at(path), [-1, 0, 7, -1, 8, -1])
    kept = [ROWS[1]._replace(index=0), ROWS[2]._replace(index=7), ROWS[4]._replace(index=8)]
    assert_same(rows, predictions_of(kept))


@pytest.mark.parametrize("stage", ["read", "unsupported"])
def test_only_files_that_could_not_be_read_are_unread(tmp_path: Path, stage: str) -> None:
    batch = predictions_of(ROWS)
    read, decoded = batch.failures
    failures = (type(read)(read.index, stage, "Permission denied"), decoded)
    write(tmp_path / "state", [type(batch)(**(vars(batch) | {"failures": failures}))])
    state = state_at(tmp_path / "state")
    assert state.unread.tolist() == [False, True, False, False, False, False]
    assert state.failed.tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("values", [1, 8, 10**6])
def test_size_of_blocks_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    monkeypatch.setattr(last_report, "VALUES_IN_A_BLOCK", values)
    write(tmp_path / "state", [predictions_of([row]) for row in ROWS])
    assert_same(rows_of(state_at(tmp_path / "state"), list(range(6))), predictions_of(ROWS))


def test_report_of_no_file_has_a_state(tmp_path: Path) -> None:
    with open(tmp_path / "state", "wb") as stream:
        StateWriter(stream).finish(FileList(), Stamps.unknown(0), BINDING, REPORT)
    state = state_at(tmp_path / "state")
    assert len(state.files) == 0
    assert list(state.rows(np.empty(0, np.int64))) == []


def test_missing_state_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state") is None


def test_every_cut_and_many_flipped_bits_are_found(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(0, len(whole), 23):
        path.write_bytes(whole[:place])
        with pytest.raises(DamagedFrameError):
            read_state(path)
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        )
        with pytest.raises(DamagedFrameError):
            read_state(path)


def test_frame_that_is_missing_or_moved_is_found(path: Path) -> None:
    whole = path.read_bytes()
    edges = [0]
    while edges[-1] < len(whole):
        length = int.from_bytes(whole[edges[-1] : edges[-1] + 8], "little")
        edges.append(edges[-1] + 40 + length)
    assert edges[-1] == len(whole)
    frames = [whole[start:end] for start, end in itertools.pairwise(edges)]
    assert len(frames) > 2
    for place in range(len(frames)):
        without = frames[:place] + frames[place + 1 :]
        for order in (without, [*without, frames[place]], [frames[place], *without]):
            if order != frames:
                path.write_bytes(b"".join(order))
                with pytest.raises(DamagedFrameError):
                    read_state(path)
