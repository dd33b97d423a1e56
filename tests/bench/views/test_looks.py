import pytest

from batchdigit.bench.views.looks import colour_of, ink, marker_of, plain_number
from batchdigit.bench.views.shown import Shown
from tests.support.measurements import sweep


def test_each_engine_and_each_number_of_workers_looks_different() -> None:
    shown = Shown(sweep(6, (16, 64), (0, 1, 2, 4)))
    assert len({colour_of(shown, engine) for engine in shown.engines}) == 6
    assert len({marker_of(shown, workers) for workers in (0, 1, 2, 4)}) == 4


def test_ink_is_darker_than_the_colour() -> None:
    assert ink("#FFFFFF") == pytest.approx((0.72, 0.72, 0.72))
    assert ink("#000000") == (0, 0, 0)


@pytest.mark.parametrize(
    ("value", "text"), [(1000.0, "1,000"), (1.0, "1"), (0.01, "0.01"), (0.0, "0")]
)
def test_numbers_on_axes_are_plain(value: float, text: str) -> None:
    assert plain_number(value) == text
