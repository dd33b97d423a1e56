import multiprocessing
import time

import pytest

from batchdigit.reading.clocks import SECONDS_TO_START, FileClocks

AGES = 1e6  # seconds; no test takes that long


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_process_tells_which_file_it_is_at_and_since_when(start_method: str) -> None:
    clocks = FileClocks(3, start_method)
    assert [clocks.file(place) for place in range(3)] == [None, None, None]
    before = time.monotonic()
    process = multiprocessing.get_context(start_method).Process(target=begin, args=(clocks,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert [clocks.file(place) for place in range(3)] == [None, 7, None]
    assert clocks.is_stuck(1, 0.0, awake_since=before)
    assert not clocks.is_stuck(1, AGES, awake_since=before)
    assert not clocks.is_stuck(1, 0.0, awake_since=time.monotonic() + AGES)  # it slept until then
    clocks.stop(1)
    assert clocks.is_idle(1)
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
    assert not clocks.is_idle(0)


def begin(clocks: FileClocks) -> None:
    clocks.start(1, 7)
