import threading

import pytest

from batchdigit.system.shared_setting import SharedSetting


class Knob:
    """A setting that keeps a record of what it was set to."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.written: list[int] = []
        self.broken = ""

    def read(self) -> int:
        if self.broken == "read":
            raise RuntimeError("cannot be read")
        return self.value

    def write(self, value: int) -> None:
        if self.broken == "write":
            raise RuntimeError("cannot be written")
        self.value = value
        self.written.append(value)


@pytest.fixture
def knob() -> Knob:
    return Knob(4)


@pytest.fixture
def one(knob: Knob) -> SharedSetting[int]:
    return SharedSetting(knob.read, knob.write, 1)


def test_setting_holds_inside_and_is_put_back(knob: Knob, one: SharedSetting[int]) -> None:
    for _ in range(2):
        with one:
            assert knob.value == 1
        assert knob.value == 4
    assert knob.written == [1, 4] * 2


def test_only_the_outermost_of_nested_blocks_changes_it(
    knob: Knob, one: SharedSetting[int]
) -> None:
    with one:
        with one, one:
            assert knob.value == 1
        assert knob.value == 1
    assert knob.written == [1, 4]


def test_setting_that_is_right_is_not_even_written(knob: Knob, one: SharedSetting[int]) -> None:
    knob.value = 1
    with one:
        one.set()
    assert knob.written == []


def test_what_somebody_changes_inside_is_put_back(knob: Knob, one: SharedSetting[int]) -> None:
    knob.value = 1
    with one:
        knob.value = 3
    assert knob.value == 1


def test_setting_can_be_set_for_good(knob: Knob, one: SharedSetting[int]) -> None:
    one.set()
    one.set()
    assert (knob.value, knob.written) == (1, [1])


def test_exception_inside_puts_it_back(knob: Knob, one: SharedSetting[int]) -> None:
    with pytest.raises(KeyError), one, one:
        raise KeyError
    assert knob.value == 4


@pytest.mark.parametrize("call", ["read", "write"])
def test_block_is_not_entered_where_it_cannot_be_set(
    knob: Knob, one: SharedSetting[int], call: str
) -> None:
    knob.broken = call
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot be"), one:
            raise AssertionError
    knob.broken = ""
    with one:  # as for the first time
        assert knob.value == 1
    assert knob.written == [1, 4]


def test_last_of_several_threads_to_leave_puts_it_back(knob: Knob, one: SharedSetting[int]) -> None:
    """The first to come is the first to go, while the others are still inside."""
    all_inside = threading.Barrier(4)
    leave = [threading.Event() for _ in range(3)]
    left = threading.Semaphore(0)

    def stay(event: threading.Event) -> None:
        with one:
            all_inside.wait(60)
            event.wait(60)
        left.release()

    threads = [threading.Thread(target=stay, args=(event,)) for event in leave]
    for thread in threads:
        thread.start()
    all_inside.wait(60)
    for event in leave:
        assert knob.value == 1
        event.set()
        assert left.acquire(timeout=60)
    assert knob.value == 4
    assert knob.written == [1, 4]
    for thread in threads:
        thread.join(60)


def test_threads_that_come_and_go_never_find_it_otherwise(
    knob: Knob, one: SharedSetting[int]
) -> None:
    found = []

    def come_and_go() -> None:
        for _ in range(500):
            with one:
                found.append(knob.value)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [1] * 2000
    assert knob.value == 4
