import threading
from collections.abc import Iterator

import pytest

from batchdigit.backends.ahead import LEAST_AT_ONCE, at_once, computed_ahead
from batchdigit.errors import WorkerError
from batchdigit.models.spec import InputSpec
from tests.support.waiting import SECONDS


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_order_and_none_is_lost(threads: int) -> None:
    done = [threading.Event() for _ in range(20)]

    def compute(number: int) -> int:
        if threads > 1 and number % 2 == 0:  # of every two, the later is done first
            assert done[number + 1].wait(SECONDS)
        done[number].set()
        return number * 2

    assert list(computed_ahead(compute, range(20), threads)) == [*range(0, 40, 2)]
    assert list(computed_ahead(compute, [], threads)) == []


def test_as_many_run_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=SECONDS)
    assert len(list(computed_ahead(lambda _: together.wait(), range(9), 3))) == 9


def test_result_that_is_there_is_not_held_back() -> None:
    """Even though items come slowly, and other threads wait for one."""
    asked: list[int] = []
    done = [threading.Event() for _ in range(5)]

    def items() -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number
            assert done[number].wait(SECONDS)

    def compute(number: int) -> int:
        done[number].set()
        return number

    results = computed_ahead(compute, items(), 4)
    assert next(results) == 0
    assert len(asked) < 5


def test_what_was_computed_comes_before_the_error_that_ends_the_items() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("gone")

    results = computed_ahead(lambda number: number, items(), 8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_thread_that_cannot_start_is_a_worker_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(WorkerError, match="can't start new thread"):
        list(computed_ahead(lambda number: number, range(3), 2))


def test_next_item_is_computed_while_one_is_handled() -> None:
    taken, begun, handled = threading.Event(), threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        taken.set()
        yield from (1, 2)

    def compute(number: int) -> None:
        if number == 0:
            assert taken.wait(SECONDS)
        if number == 1:
            begun.set()
            assert handled.wait(SECONDS)

    results = computed_ahead(compute, items(), 1)
    next(results)
    assert begun.wait(SECONDS)
    handled.set()
    list(results)


def test_no_more_than_two_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    results = computed_ahead(lambda number: number, items(), 1)
    assert next(results) == 0
    assert taken in ([0], [0, 1])


def test_error_of_the_computation_is_raised_and_its_thread_ends() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(computed_ahead(lambda number: 1 // number, [1, 0, 1], 1))
    assert threading.active_count() == before


def test_thread_ends_when_the_caller_leaves_early() -> None:
    before = threading.active_count()
    results = computed_ahead(lambda number: number, range(10), 1)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_still_runs_is_stopped_when_nobody_wants_it() -> None:
    """As what an endless loop in a graph computes: only stopping it ends it."""
    stopped = threading.Event()
    results = computed_ahead(lambda item: item or stopped.wait(60), [1, 0], 1, stop=stopped.set)
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert stopped.is_set()


def test_an_error_in_one_result_stops_the_others() -> None:
    stopped = threading.Event()

    def compute(item: int) -> bool:
        if not item:
            raise ValueError("no")
        return stopped.wait(60)

    with pytest.raises(ValueError, match="no"):
        list(computed_ahead(compute, [0, 1], 2, stop=stopped.set))
    assert stopped.is_set()


@pytest.mark.parametrize(
    ("size", "channels", "images"), [(28, 1, 128), (14, 1, 128), (56, 1, 32), (32, 3, 32)]
)
def test_fewer_large_images_are_computed_at_once(size: int, channels: int, images: int) -> None:
    assert at_once(InputSpec(size=size, channels=channels)) == images
    assert at_once(InputSpec(size=1024, channels=3)) == LEAST_AT_ONCE
    assert at_once(InputSpec(size=1024, channels=3), most=4) == 4
