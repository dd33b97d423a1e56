"""A number or a percentage of images, exactly as it is written."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.errors import UsageError
from batchdigit.system.tolerance import Tolerance


@pytest.mark.parametrize(
    ("text", "failed", "found", "allowed"),
    [
        ("0", 0, 10, True),
        ("0", 1, 10, False),
        ("3", 3, 10, True),
        ("3", 4, 10, False),
        ("10%", 1, 10, True),
        ("10%", 2, 10, False),
        ("0.5%", 1, 200, True),
        ("0.5%", 1, 199, False),
        ("100%", 10, 10, True),
        ("32.3%", 323, 1000, True),
        ("32.3%", 324, 1000, False),
    ],
)
def test_so_many_of_some_images_are_allowed(
    text: str, failed: int, found: int, allowed: bool
) -> None:
    assert Tolerance.parse(text).allows(failed, found) is allowed


@pytest.mark.parametrize("text", ["0", "3", "10%", "0.5%", "32.30%"])
def test_tolerance_is_written_as_it_is_parsed(text: str) -> None:
    assert str(Tolerance.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.5", "101%", "%", "5 %", "1e3", "1" * 19, "100.1%"]
)
def test_senseless_tolerance_is_an_error(text: str) -> None:
    for option in ("--max-bad", "--max-gone"):
        with pytest.raises(UsageError, match=f"{option} .* neither a number nor a percentage"):
            Tolerance.parse(text, option)


@given(st.integers(0, 1000), st.integers(0, 10**6), st.integers(0, 10**6))
def test_percentage_is_compared_without_rounding(tenths: int, failed: int, found: int) -> None:
    allowed = Fraction(tenths, 1000) * found >= failed
    assert Tolerance.parse(f"{tenths // 10}.{tenths % 10}%").allows(failed, found) is allowed
