import contextlib
import time
from collections.abc import Iterator

import pytest

from batchdigit.system.stopwatch import Laps, Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless a test turns it."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_second_counts_for_the_innermost_stage_alone(clock: list[float]) -> None:
    stopwatch = Stopwatch()
    clock[0] += 1  # outside any stage
    with stopwatch.stage("outer"):
        clock[0] += 2
        with stopwatch.stage("inner"):
            clock[0] += 4
        clock[0] += 8
    assert stopwatch.seconds() == {"outer": 10, "inner": 4, "total": 15}


def test_items_are_timed_while_they_arrive_and_not_while_they_are_used(
    clock: list[float],
) -> None:
    def slow() -> object:
        for item in range(3):
            clock[0] += 1
            yield item

    stopwatch = Stopwatch()
    for _ in stopwatch.each("arrive", slow()):
        clock[0] += 10
    assert stopwatch.seconds() == {"arrive": 3, "total": 33}


def test_stage_ends_with_an_exception(clock: list[float]) -> None:
    stopwatch = Stopwatch()
    with pytest.raises(KeyError), stopwatch.stage("failing"):
        clock[0] += 1
        raise KeyError
    clock[0] += 5
    assert stopwatch.seconds() == {"failing": 1, "total": 6}


def test_seconds_can_be_counted_for_another_stage(clock: list[float]) -> None:
    stopwatch = Stopwatch()
    with stopwatch.stage("read"):
        clock[0] += 5
    stopwatch.shift("read", "start", 2.0)
    assert stopwatch.seconds() == {"read": 3, "start": 2, "total": 5}


@pytest.mark.usefixtures("clock")
def test_work_of_others_is_added_up() -> None:
    stopwatch = Stopwatch()
    stopwatch.add_work({"read": 1.0, "network": 2.0})
    stopwatch.add_work({"read": 3.0, "fit": 4.0})
    assert stopwatch.busy == {"read": 4.0, "network": 2.0, "fit": 4.0}
    assert stopwatch.seconds() == {"total": 0}


def test_laps_count_for_the_stage_that_was_entered_last(clock: list[float]) -> None:
    laps = Laps()
    clock[0] += 1  # before the first
    for stage, seconds in (("read", 2), ("decode", 4), ("read", 8), (None, 16), ("fit", 32)):
        laps.enter(stage)
        clock[0] += seconds
    laps.enter(None)
    assert laps.seconds == {"read": 10, "decode": 4, "fit": 32}


def test_entering_and_leaving_is_timed_and_not_what_is_done_inside(clock: list[float]) -> None:
    @contextlib.contextmanager
    def slow() -> Iterator[str]:
        clock[0] += 1
        yield "inside"
        clock[0] += 2

    stopwatch = Stopwatch()
    with stopwatch.around("write", slow()) as item:
        assert item == "inside"
        clock[0] += 10
        with stopwatch.stage("read"):
            clock[0] += 20
    assert stopwatch.seconds() == {"write": 3, "read": 20, "total": 33}
