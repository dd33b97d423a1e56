import string

import pytest

from batchdigit.sources.endings import (
    EXTENSIONS,
    MAX_ENDINGS,
    OTHER,
    count_endings,
    ending_of,
    left_out,
)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        (b"a.PDF", b".pdf"),
        (b"a.b/README", b""),
        (b"a/.profile", b""),
        (b"a/b.tar.gz", b".gz"),
        (b"2.png?size=2", b".png?size=2"),
        (b"dot.", b"."),
    ],
)
def test_ending_is_what_follows_the_last_dot_of_the_name(name: bytes, ending: bytes) -> None:
    assert ending_of(name) == ending


def test_no_ending_is_both_an_images_and_something_elses() -> None:
    assert not OTHER & set(EXTENSIONS)
    assert all(ending == ending.lower() and ending.startswith(b".") for ending in OTHER)


def test_endings_are_counted_the_most_frequent_first() -> None:
    names = [b"1.zip", b"a/2.pdf", b"3.PDF", b"README", b"4.p?df", b"5." + b"x" * 13, b"6.a"]
    counts = count_endings(names)
    assert list(counts.items()) == [(".pdf", 2), (".a", 1), (".zip", 1), ("none", 1), ("other", 2)]
    assert left_out(counts) == (
        "left out: 2 .pdf, 1 .a, 1 .zip, 1 without ending, 2 with other endings"
    )


def test_number_of_endings_is_bounded() -> None:
    names = [f"1.{one}{two}".encode() for one in string.ascii_lowercase for two in "abcde"]
    counts = count_endings(names)
    assert len(counts) == MAX_ENDINGS + 1
    assert counts["other"] == len(names) - MAX_ENDINGS


def test_nothing_left_out_is_nothing_said() -> None:
    assert left_out(count_endings([])) == ""
