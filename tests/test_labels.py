import json
from pathlib import Path

import pytest

from batchdigit import UsageError, read_labels
from batchdigit.labels import check_labels, digits_named


def file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.txt"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        'zero\none\nzwei, "zwo"\n三\n',
        'zero\r\none\r\nzwei, "zwo"\r\n三',
        '\ufeffzero\none\nzwei, "zwo"\n三',
        json.dumps(["zero", "one", 'zwei, "zwo"', "三"]),
        json.dumps({"3": "三", "1": "one", "0": "zero", "2": 'zwei, "zwo"'}),
    ],
    ids=["lines", "Windows lines", "byte order mark", "JSON list", "JSON object"],
)
def test_names_are_read_in_the_order_of_the_classes(tmp_path: Path, text: str) -> None:
    assert read_labels(file(tmp_path, text)) == ("zero", "one", 'zwei, "zwo"', "三")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n\nb\n", "class 1 is empty"),
        ("a\n \nb\n", "class 1 is empty"),
        ("a\nb\x07\n", "not printable"),
        ("a\n-\n", "'-' for a formula"),
        ("=1+1\na\n", "for a formula"),
        ("\uff1d1+1\na\n", "for a formula"),
        (" \uff0b1\na\n", "for a formula"),
        ("one;=1+1\na\n", "for a formula"),
        ("one, @x\na\n", "for a formula"),
        ("a\nb\na\n", "'a' is given twice"),
        ('["a", 1]', "not a list of names"),
        ('["a", ["b"]]', "not a list of names"),
        ('["a", "b"', "begin like JSON"),
        ('{"0": "a", "1": "b", "1": "c"}', "a class is named twice"),
        ("", "hold no names"),
        ("[]", "hold no names"),
        (" \n", "hold no names"),
        ('{"0": "a", "2": "b"}', "classes 0 to 1"),
        ('{"zero": "a"}', "classes 0 to 0"),
        ("[" * 100_000, "begin like JSON"),
        ("a" * (1 << 20) + "b", "larger than 1 MiB"),
        ("ä" * 600_000, "larger than 1 MiB"),
        ("\n".join(map(str, range(100_000))), "100000 labels"),
    ],
    ids=lambda value: value[:20],
)
def test_names_that_cannot_stand_in_a_report_are_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    path = file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_labels(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_file_that_is_missing_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_labels(tmp_path / "none")
    with pytest.raises(UsageError, match="not a regular file but a folder"):
        read_labels(tmp_path)
    with pytest.raises(UsageError, match="not UTF-8"):
        read_labels(file(tmp_path, "ä", "latin-1"))


def test_names_given_in_python_are_checked_too() -> None:
    assert check_labels(["a", "b"]) == ("a", "b")
    for names in ("ab", 5, ["a", None], ["a", "a"]):
        with pytest.raises(UsageError):
            check_labels(names)


def test_empty_lines_at_the_end_are_not_names(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a\nb\n\n \n")
    assert read_labels(tmp_path / "labels") == ("a", "b")


@pytest.mark.parametrize(
    ("names", "digits"),
    [
        ("0 1 2 3 4 5 6 7 8 9", tuple(range(10))),
        ("00 01 02 03 04 05 06 07 08 09", tuple(range(10))),
        ("One two three four five six seven eight nine ZERO", (*range(1, 10), 0)),
        ("0 1 2 3 4 5 6 7 8", ()),
        ("0 1 2 3 4 5 6 7 8 8", ()),
        ("a b c d e f g h i j", ()),
        ("0 1 2 3 4 5 6 7 8 ten", ()),
        ("", ()),
    ],
)
def test_labels_that_name_the_ten_digits_are_known(names: str, digits: tuple[int, ...]) -> None:
    assert digits_named(names.split()) == digits
