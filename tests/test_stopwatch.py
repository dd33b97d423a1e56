import time

import pytest

from batchdigit.stopwatch import Stopwatch


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
