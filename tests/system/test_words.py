"""Numbers with their nouns."""

import pytest

from batchdigit.system.words import counted


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 images"), (1, "1 image"), (2, "2 images"), (11, "11 images"), (1234, "1234 images")],
)
def test_one_is_not_many(number: int, said: str) -> None:
    assert counted(number, "image") == said


def test_thousands_are_separated_on_request() -> None:
    assert counted(1_234_567, "image", separator=",") == "1,234,567 images"


def test_noun_may_have_a_plural_of_its_own() -> None:
    assert counted(1, "class", "classes") == "1 class"
    assert counted(10, "class", "classes") == "10 classes"
