"""Messages are those of protocol buffers' own documentation and library."""

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.models.protobuf import (
    BYTES,
    MAX_FIELDS,
    NUMBER,
    bytes_field,
    number_field,
    read_fields,
    read_varint,
    text_field,
    varint,
)

# https://protobuf.dev/programming-guides/encoding/
TEST1 = bytes.fromhex("08 96 01")  # int32 a = 1; 150
TEST2 = bytes.fromhex("12 07 74 65 73 74 69 6e 67")  # string b = 2; "testing"
TEST3 = bytes.fromhex("1a 03 08 96 01")  # Test1 c = 3; a message in a message


def test_examples_of_the_documentation() -> None:
    assert varint(1) == b"\x01"
    assert varint(150) == b"\x96\x01"
    assert b"".join(number_field(1, 150)) == TEST1
    assert b"".join(text_field(2, "testing")) == TEST2
    assert b"".join(bytes_field(3, number_field(1, 150))) == TEST3


def test_examples_are_read_again() -> None:
    assert read_fields(TEST1, {1: NUMBER}) == {1: [150]}
    assert read_fields(TEST2, {2: BYTES}) == {2: [b"testing"]}
    ((message,),) = read_fields(TEST3, {3: BYTES}).values()
    assert read_fields(message, {1: NUMBER}) == {1: [150]}


def test_fields_that_repeat_or_are_missing_are_lists() -> None:
    assert read_fields(TEST1 + TEST2 + TEST1, {1: NUMBER, 2: BYTES, 5: BYTES}) == {
        1: [150, 150],
        2: [b"testing"],
        5: [],
    }


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_numbers_are_those_of_googles_library(value: int, after: bytes) -> None:
    encoded = varint(value)
    assert encoded == _VarintBytes(value)
    assert read_varint(memoryview(encoded + after), 0) == (value, len(encoded))


@given(st.text(), st.binary())
def test_messages_are_those_of_googles_library(url: str, value: bytes) -> None:
    theirs = Any(type_url=url, value=value)
    ours = (text_field(1, url) if url else []) + (bytes_field(2, [value]) if value else [])
    assert b"".join(ours) == theirs.SerializeToString()
    found = read_fields(theirs.SerializeToString(), {1: BYTES, 2: BYTES})
    assert found == {n: [part] if part else [] for n, part in ((1, url.encode()), (2, value))}


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",  # a number that is missing
        b"\x08\x96",  # or cut
        b"\x08" + b"\xff" * 20,  # or endless
        b"\x12\x07test",  # fewer bytes than declared
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # many fewer
        b"\x0d\0\0\0\0",  # of 32 bits, which this program never writes
        b"\x09\0\0\0\0\0\0\0\0",  # of 64 bits
        b"\x08\x01" * (MAX_FIELDS + 1),
        b"\x10\x05",  # a number where there are bytes
        b"\x0a\x01\x05",  # bytes where there is a number
        b"\x18\x05",  # another field
    ],
)
def test_what_this_program_does_not_write_is_an_error(message: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        read_fields(message, {1: NUMBER, 2: BYTES})


@given(st.binary(max_size=40))
def test_any_bytes_give_fields_or_an_error(message: bytes) -> None:
    try:
        found = read_fields(message, {1: NUMBER, 2: BYTES})
    except (ValueError, IndexError):
        return
    assert all(isinstance(number, int) for number in found[1])
    assert all(isinstance(content, memoryview) for content in found[2])
