"""The plan by which workers read, compared with slices of a plain list."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.reading.workers import BYTES_AHEAD, Plan, WorkerDied

PLACES = st.lists(st.integers(0, 200), unique=True, max_size=40).map(sorted)
SIZE = st.integers(1, 9)


IMAGE = 784  # bytes


def slices(places: list[int], size: int) -> list[list[int]]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def plan_of(places: list[int], size: int) -> Plan:
    return Plan(np.array(places, np.int64), size, range(len(slices(places, size))), IMAGE)


@given(PLACES, SIZE)
def test_batches_are_slices_of_the_places(places: list[int], size: int) -> None:
    plan = plan_of(places, size)
    assert list(plan) == slices(places, size)
    assert len(plan) == len(slices(places, size))
    for number, expected in enumerate(slices(places, size)):
        assert plan.indices(number) == expected
        assert {plan.batch_of(index) for index in expected} == {number}


@given(PLACES, SIZE, st.integers(1, 5))
def test_processes_take_turns(places: list[int], size: int, count: int) -> None:
    plan = plan_of(places, size)
    shares = [iter(plan.share(place, count)) for place in range(count)]
    taken = [next(shares[number % count]) for number in range(len(plan))]
    assert taken == slices(places, size)
    assert [next(share, None) for share in shares] == [None] * count


@given(PLACES, SIZE, st.data())
def test_batches_may_be_left_out(places: list[int], size: int, data: st.DataObject) -> None:
    whole = plan_of(places, size)
    numbers = [number for number in range(len(whole)) if data.draw(st.booleans())]
    plan = Plan(whole.places, size, numbers, IMAGE)
    assert list(plan) == [slices(places, size)[number] for number in numbers]
    assert len(plan) == len(numbers)


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_what_is_read_ahead_is_bounded_by_its_bytes(size: int, count: int) -> None:
    ahead = plan_of(list(range(3)), size).batches_ahead(count)
    assert 2 <= ahead <= 64
    if ahead > 2:
        assert ahead * count * size * IMAGE <= BYTES_AHEAD


def test_fewer_batches_of_larger_images_are_read_ahead() -> None:
    small = plan_of(list(range(3)), 64)
    large = Plan(small.places, 64, small.numbers, 3 * 224 * 224)
    assert small.batches_ahead(2) > large.batches_ahead(2) == 2


def test_plan_travels_to_another_process() -> None:
    plan = plan_of([1, 3, 5, 8], 3)
    assert list(pickle.loads(pickle.dumps(plan))) == [[1, 3, 5], [8]]


@pytest.mark.parametrize("index", [None, 7])
def test_death_tells_of_the_file(index: int | None) -> None:
    assert WorkerDied(index).index == index
