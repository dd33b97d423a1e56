from batchdigit.bench.measuring.clock import Clock
from tests.support.engines import HandClock


def test_clock_counts_down_to_a_share_of_its_budget_and_beyond() -> None:
    clock = HandClock(60.0)
    assert clock.left(0.5) == 30.0
    clock.now = 40.0
    assert clock.left(0.5) == -10.0


def test_clock_goes_forward() -> None:
    clock = Clock(10.0)
    before = clock.seconds
    assert 0 <= before <= clock.seconds
    assert clock.left(1) <= 10.0


def test_progress_never_passes_the_budget() -> None:
    clock = HandClock(60.0)
    for now in (0.4, 12.6, 61.0):
        clock.now = now
        clock.show()
    assert clock.shown == [0, 13, 60]
