import time
from multiprocessing.connection import Connection

import pytest

from batchdigit.reading.clocks import SECONDS_TO_START, FileClocks
from batchdigit.system.processes import start_with_pipe, starting_processes

AGES = 1e6  # seconds; no test takes that long


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_process_tells_which_file_it_is_at_and_since_when(start_method: str) -> None:
    clocks = FileClocks(3, start_method)
    assert [clocks.file(place) for place in range(3)] == [None, None, None]
    before = time.monotonic()
    with starting_processes():
        process, pipe = start_with_pipe(start_method, begin, (clocks,))
    process.join(60)
    pipe.close()
    assert process.exitcode == 0
    assert [clocks.file(place) for place in range(3)] == [None, 7, None]
    assert clocks.is_stuck(1, 0.0, awake_since=before)
    assert not clocks.is_stuck(1, AGES, awake_since=before)
    assert not clocks.is_stuck(1, 0.0, awake_since=time.monotonic() + AGES)  # it slept until then
    assert not clocks.is_silent(1, 0.0, since=before)
    clocks.stop(1)
    assert clocks.is_silent(1, 0.0, since=before)
    assert not clocks.is_silent(1, AGES, since=before)
    assert not clocks.is_silent(1, 0.0, since=time.monotonic() + AGES)
    assert clocks.file(1) is None
    assert not clocks.is_stuck(1, 0.0, awake_since=before)


def test_process_that_never_begins_is_stuck_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clocks = FileClocks(1, "fork")
    now[0] += SECONDS_TO_START + 1
    assert not clocks.is_stuck(0, 2.0, awake_since=0.0)
    now[0] += 2
    assert clocks.is_stuck(0, 2.0, awake_since=0.0)
    assert not clocks.is_silent(0, 0.0, since=0.0)


def test_process_is_silent_from_when_it_has_read_its_last_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long its batch took, and however long that has been waited for."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clocks = FileClocks(1, "fork")
    for _ in range(10):
        clocks.start(0, 7)
        now[0] += 1.5
        clocks.stop(0)
        assert not clocks.is_silent(0, 2.0, since=1000.0)
    now[0] += 2.5
    assert clocks.is_silent(0, 2.0, since=1000.0)
    assert not clocks.is_silent(0, 2.0, since=now[0] - 1)


def begin(_pipe: Connection, clocks: FileClocks) -> None:
    clocks.start(1, 7)
