import pytest

from batchdigit.bench.views.numbers import megabytes, microseconds, spread, two_digits
from tests.support.measurements import TORCH, point


@pytest.mark.parametrize(
    ("size", "text"), [(None, ""), (0, "0 MB"), (499_999, "0 MB"), (1_234_567_890, "1,235 MB")]
)
def test_sizes_are_megabytes_of_a_million_bytes(size: int | None, text: str) -> None:
    assert megabytes(size) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7.0, "7"), (123.0, "120"), (98_765.0, "99,000"), (1e7, "10,000,000")]
)
def test_numbers_of_images_have_two_digits_that_count(count: float, text: str) -> None:
    assert two_digits(count) == text


def test_spread_is_from_the_5th_to_the_95th_percentile() -> None:
    assert spread(point(TORCH, (9000.0, 10_000.0, 11_000.0))) == "9,100 to 10,900"


def test_microseconds_are_those_of_one_image() -> None:
    assert microseconds(2.0, 1000) == 2000.0
