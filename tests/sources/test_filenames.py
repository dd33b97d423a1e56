import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit import escape_filename, unescape_filename

ODD_NAMES = [
    b"0-label-7.png",
    b"a/b/c.png",
    "ünïcödé-数字.png".encode(),
    b"not-utf8-\xff\xfe.png",
    b"surrogate-\xed\xa0\x80.png",
    b"new\nline.png",
    b"carriage\rreturn.png",
    b"crlf\r\n.png",
    b"tab\t.png",
    b"comma,quote\"'.png",
    b"=SUM(A1).png",
    "\uff1dSUM(A1).png".encode(),
    "\uff20at.png".encode(),
    b"\n=1+1.png",
    b" =1+1.png",
    b"\x01=1+1.png",
    "\u00a0-1.png".encode(),
    b"a;=1+1.png",
    b"a|=1+1.png",
    b"+1.png",
    b"-1.png",
    b"@at.png",
    b"\ttab.png",
    b"\rcr.png",
    b"NA",
    b"null",
    b"NaN",
    b"None",
    b" leading and trailing ",
    b"back\\slash.png",
    b"\\xff.png",
    b"\\x5cxff.png",
    b"\\\\xff\xff\\.png",
    b"x" * 251 + b".png",
    b"\xff" * 251 + b".png",
    b"nul-like-\x01\x1f\x7f.png",
    "line-separators-\x85\u2028\u2029.png".encode(),
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_name_survives_the_escape(name: bytes) -> None:
    text = escape_filename(name)
    text.encode("utf-8")
    assert unescape_filename(text) == name


def is_relative_path(name: bytes) -> bool:
    return not name.startswith((b"./", b"/"))


@given(st.binary(min_size=1).filter(is_relative_path))
def test_any_bytes_survive_the_escape(name: bytes) -> None:
    text = escape_filename(name)
    assert unescape_filename(text) == name
    assert not text.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert not text.strip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))


@given(st.text("\\x5cfa=./", min_size=1).map(str.encode).filter(is_relative_path))
def test_name_that_looks_escaped_survives_the_escape(name: bytes) -> None:
    assert unescape_filename(escape_filename(name)) == name


@pytest.mark.parametrize("name", ["plain.png", "sub/ü.png", "back\\slash.png", "\\xag.png"])
def test_ordinary_name_is_its_own_text(name: str) -> None:
    assert escape_filename(name.encode()) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"\xff.png", "\\xff.png"),
        (b"\\xff.png", "\\x5cxff.png"),
        (b"=1.png", "./=1.png"),
    ],
)
def test_escape_is_the_documented_one(name: bytes, text: str) -> None:
    assert escape_filename(name) == text
