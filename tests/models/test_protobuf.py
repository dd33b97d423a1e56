"""Messages are those of protocol buffers' own documentation and library."""

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.models import protobuf
from batchdigit.models.protobuf import (
    BYTES,
    EIGHT_BYTES,
    FOUR_BYTES,
    NUMBER,
    Fields,
    Layout,
    ProtobufError,
    bytes_field,
    count_numbers,
    number_field,
    read_numbers,
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
    assert fields(TEST1, {1: NUMBER}) == {1: [150]}
    assert fields(TEST2, {2: BYTES}) == {2: [b"testing"]}
    ((message,),) = fields(TEST3, {3: BYTES}).values()
    assert fields(message, {1: NUMBER}) == {1: [150]}


def test_fields_that_repeat_or_are_missing_are_lists() -> None:
    assert fields(TEST1 + TEST2 + TEST1, {1: NUMBER, 2: BYTES, 5: BYTES}) == {
        1: [150, 150],
        2: [b"testing"],
        5: [],
    }


def fields(message: bytes, known: dict[int, int]) -> dict[int, list[object]]:
    """The fields of a message that may all repeat."""
    return Fields().keep(memoryview(message), Layout({}, known), tuple(known))


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
    found = fields(theirs.SerializeToString(), {1: BYTES, 2: BYTES})
    assert found == {n: [part] if part else [] for n, part in ((1, url.encode()), (2, value))}


LAYOUT = Layout(
    {1: NUMBER, 2: BYTES},
    {3: NUMBER, 4: FOUR_BYTES, 5: EIGHT_BYTES, 6: BYTES, 7: NUMBER, 8: BYTES, 9: FOUR_BYTES},
    unread=(7, 8, 9),
)


def read(message: bytes, layout: Layout = LAYOUT) -> list[tuple[int, object]]:
    found = []
    position = 0
    for number, content, raw in Fields().read(memoryview(message), layout):
        assert message[position : position + len(raw)] == raw
        position += len(raw)
        found.append((number, bytes(content) if isinstance(content, memoryview) else content))
    assert position == len(message)
    return found


def test_fields_of_any_type_are_read() -> None:
    message = TEST1 + TEST2 + b"\x18\x05\x25abcd\x29abcdefgh\x32\0"
    assert read(message) == [
        (1, 150), (2, b"testing"), (3, 5), (4, b"abcd"), (5, b"abcdefgh"), (6, b""),
    ]  # fmt: skip


def test_numbers_may_come_packed_and_nothing_else_otherwise_than_declared() -> None:
    assert read(b"\x1a\x02\x05\x06\x22\x08abcdefgh\x18\x05") == [
        (3, b"\x05\x06"), (4, b"abcdefgh"), (3, 5),
    ]  # fmt: skip
    for message in (b"\x0a\x01\x05", b"\x10\x05", b"\x1dabcd", b"\x20\x05", b"\x30\x05"):
        with pytest.raises(ProtobufError, match="another type"):
            read(message)


def test_fields_that_are_not_known_are_read_of_any_type() -> None:
    layout = Layout({}, {})
    for message in (TEST1, TEST2, b"\x25abcd", b"\x29abcdefgh", TEST1 * 2, TEST1 + TEST2):
        assert len(read(message, layout)) == (2 if len(message) in (6, 12) else 1)


def test_field_that_may_stand_once_stands_once() -> None:
    for message in (TEST1, TEST2):
        assert len(read(message)) == 1
        with pytest.raises(ProtobufError, match="stands twice"):
            read(message * 2)


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",
        b"\x08\x96",
        b"\x08" + b"\xff" * 20,
        b"\x08" + b"\xff" * 9 + b"\x02",  # 65 bits
        b"\x12\x07test",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x25abc",
        b"\x29abcdefg",
        b"\x80",
        b"\x00\x05",  # the field 0
        b"\x88\x00\x05",  # the field 1, in more bytes than it needs
        b"\xf8\xff\xff\xff\x1f\x05",  # a number of more than 32 bits
        b"\x0b\x0c",  # groups
        b"\x9b\x06\x9c\x06",
        b"\x0e",  # wire types that there are not
        b"\x0f",
    ],
)
def test_what_is_no_message_is_an_error(message: bytes) -> None:
    with pytest.raises(ProtobufError):
        read(message)


@given(
    st.lists(
        st.one_of(
            st.integers(0, 2**64 - 1).map(lambda value: number_field(7, value)),
            st.binary(max_size=40).map(lambda value: bytes_field(8, [value])),
            st.binary(min_size=4, max_size=4).map(lambda value: [b"\x4d", value]),
        )
    )
)
def test_fields_that_nobody_looks_at_are_passed_over_to_the_byte(fields: list[list[bytes]]) -> None:
    message = b"".join(b"".join(field) for field in fields)
    found = read(message + TEST1)  # which checks that no byte is lost
    assert found[-1] == (1, 150)
    assert {number for number, _ in found[:-1]} == {b"".join(field)[0] >> 3 for field in fields}


def test_run_of_fields_counts_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS_OF_A_FILE", 10)
    run = b"".join(number_field(7, 300)) * 10_000
    assert [number for number, _ in read(run)] == [7] * 10
    with pytest.raises(ProtobufError, match="more than 10 fields"):
        read(run + TEST1)
    with pytest.raises(ProtobufError, match="more than 10 fields"):
        read(b"".join(number_field(3, 300)) * 11)
    monkeypatch.setattr(protobuf, "MAX_BYTES_OF_RUNS", len(run) - 1)
    with pytest.raises(ProtobufError, match="attributes of more than"):
        read(run)


def test_fields_of_all_messages_of_a_file_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS_OF_A_FILE", 3)
    fields = Fields()
    for _ in range(3):
        fields.keep(memoryview(TEST1), LAYOUT, (1,))
    with pytest.raises(ProtobufError, match="more than 3 fields"):
        fields.keep(memoryview(TEST1), LAYOUT, (1,))


def test_fields_that_are_kept_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MAX_KEPT", 2)
    message = memoryview(TEST1 + b"\x18\x05" * 3)
    assert Fields().keep(message, LAYOUT, (1, 2)) == {1: [150], 2: []}
    with pytest.raises(ProtobufError, match="more than 2 fields"):
        Fields().keep(message, LAYOUT, (3,))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8))
def test_packed_numbers_are_read_and_counted(numbers: list[int]) -> None:
    content = memoryview(b"".join(map(varint, numbers)))
    assert read_numbers(content, 8) == numbers
    assert count_numbers(content, NUMBER) == len(numbers)
    with pytest.raises(ProtobufError, match="more than 7"):
        read_numbers(memoryview(b"\5" * 8), 7)


def test_numbers_are_counted_in_content_of_any_size() -> None:
    assert count_numbers(5, NUMBER) == 1
    assert count_numbers(memoryview(b"\x80\x01" * 1_000_000), NUMBER) == 1_000_000
    assert count_numbers(memoryview(bytes(24)), FOUR_BYTES) == 6
    assert count_numbers(memoryview(bytes(24)), EIGHT_BYTES) == 3
    assert count_numbers(memoryview(bytes(24)), BYTES) == 1


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(message: bytes) -> None:
    try:
        found = read(message)
    except ProtobufError:
        return
    assert all(number > 0 for number, _ in found)
