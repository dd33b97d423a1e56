import threading
from collections.abc import Iterator

import pytest

from batchdigit.lookahead import computed_ahead


def test_results_come_in_order_and_none_is_lost() -> None:
    assert list(computed_ahead(lambda number: number * 2, range(5), 1)) == [0, 2, 4, 6, 8]
    assert list(computed_ahead(lambda number: number, [], 1)) == []


def test_next_item_is_computed_while_one_is_handled() -> None:
    begun = [threading.Event() for _ in range(3)]
    results = computed_ahead(lambda number: begun[number].set(), range(3), 1)
    next(results)
    assert begun[1].wait(10)
    assert not begun[2].is_set()


def test_no_more_than_two_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    results = computed_ahead(lambda number: number, items(), 1)
    assert next(results) == 0
    assert taken == [0, 1]


def test_error_of_the_computation_is_raised_and_its_thread_ends() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(computed_ahead(lambda number: 1 // number, [1, 0, 1], 1))
    assert threading.active_count() == before


def test_thread_ends_with_whoever_leaves_early() -> None:
    before = threading.active_count()
    results = computed_ahead(lambda number: number, range(10), 1)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
