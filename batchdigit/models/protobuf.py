"""As much of the protocol buffers' encoding as an ONNX file needs.

It is described at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Message = list[bytes | memoryview]  # in pieces, so that weights are copied only once, at the end

NUMBER, BYTES = 0, 2
"""How the content of a field is encoded: its wire type."""


def text_field(number: int, text: str) -> Message:
    """A field that holds text."""
    return bytes_field(number, [text.encode()])


def bytes_field(number: int, message: Message) -> Message:
    """A field that holds a message or bytes."""
    return [varint(number << 3 | BYTES), varint(sum(map(len, message))), *message]


def number_field(number: int, value: int) -> Message:
    """A field that holds a whole number, 0 or more."""
    return [varint(number << 3 | NUMBER), varint(value)]


def varint(value: int) -> bytes:
    """A whole number, 0 or more: seven bits a byte, the lowest first.

    The eighth bit is set in every byte but the last.
    """
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """Undo :func:`varint`: the number at ``position`` of the bytes, and the position behind it.

    Raises ValueError for more than 64 bits, IndexError where the bytes end before the number does.
    """
    value = shift = 0
    while shift < 64:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("not a number")


FOUR_BYTES, EIGHT_BYTES = 5, 1
"""Two more wire types, of numbers of 32 and 64 bits."""

MAX_FIELDS_OF_A_FILE = 500_000  # each takes 1 to 3 microseconds; a ResNet-50 has 10,000
MAX_BYTES_OF_RUNS = 128 << 20  # each byte takes at most 30 ns; a forest of 100 trees has 50 MB
MAX_KEPT = 50_000  # fields of one message that are held at once
_PER_STEP = b"{1,1000}"  # so that what re keeps for going back stays small
_MAX_TAG = (1 << 32) - 1

# Contents of a field, by wire type, as regular expressions. Longer texts are read one by one.
_CONTENTS = {
    NUMBER: rb"[\x80-\xff]{0,9}[\0-\x7f]",
    FOUR_BYTES: rb".{4}",
    BYTES: b"(?:" + b"|".join(b"\\x%02x.{%d}" % (size, size) for size in range(32)) + b")",
}


class ProtobufError(ValueError):
    """The bytes are not the message that they are taken for, or one of absurdly many fields."""


class Layout:
    """Which fields a message may have: their numbers, and the wire type of each.

    Those in ``once`` occur at most once, those in ``often`` any number of times. Numbers among the
    latter may also come packed, as BYTES. ``unread`` are those of ``often`` with a number below 16
    that nobody looks at: a run of them counts as one field, and is passed over by a regular
    expression, which is thirty times as fast.
    """

    def __init__(
        self, once: Mapping[int, int], often: Mapping[int, int], unread: Iterable[int] = ()
    ) -> None:
        self.once = once
        self.often = often
        self.runs = {
            tag: re.compile(
                b"(?:\\x%02x%s)%s" % (tag, _CONTENTS[often[number]], _PER_STEP), re.DOTALL
            )
            for number in unread
            for tag in [number << 3 | often[number]]
        }


class Fields:
    """Reads the messages of one file of any origin, and counts their fields.

    Nothing is copied: messages, texts and bytes are views of the file. A message that another
    reader could take for something else is refused: protocol buffers merge a message that stands
    twice where one is expected, and of a number they take the last. Fields that a Layout does not
    know are ignored, as they are by all readers.
    """

    def __init__(self) -> None:
        self._fields = 0
        self._skipped = 0

    def read(self, message: memoryview, layout: Layout) -> Iterator[tuple[int, Any, memoryview]]:
        """Each field's number, its content, and all its bytes.

        The content of a NUMBER is an int from 0 to 2**64 - 1, that of all others a memoryview, and
        that of a run of ``unread`` fields None.

        Raises ProtobufError for a field that is cut or encoded otherwise than ``layout`` says, for
        one of ``once`` that comes again, for groups, for more than MAX_FIELDS_OF_A_FILE in all.
        """
        position = 0
        seen: set[int] = set()
        while position < len(message):
            start = position
            run = layout.runs.get(message[start])
            if run and (match := run.match(message, start)):
                position = match.end()
                self._count(position - start)
                yield message[start] >> 3, None, message[start:position]
                continue
            self._count(0)
            number, wire_type, position = _read_tag(message, start)
            expected = layout.once.get(number)
            if expected is not None:
                if number in seen:
                    raise ProtobufError(f"field {number} stands twice")
                seen.add(number)
            else:
                expected = layout.often.get(number)
                if wire_type == BYTES and expected is not None:
                    expected = BYTES
            if expected is not None and expected != wire_type:
                raise ProtobufError(f"field {number} is of another type")
            content, position = _read_content(message, position, wire_type)
            yield number, content, message[start:position]

    def keep(
        self, message: memoryview, layout: Layout, numbers: Iterable[int]
    ) -> dict[int, list[Any]]:
        """The contents of the fields with these numbers, in the order of the message.

        Raises ProtobufError as :meth:`read` does, and for more than MAX_KEPT of them.
        """
        found: dict[int, list[Any]] = {number: [] for number in numbers}
        kept = 0
        for number, content, _ in self.read(message, layout):
            if number in found:
                found[number].append(content)
                kept += 1
                if kept > MAX_KEPT:
                    raise ProtobufError(f"a message with more than {MAX_KEPT} fields")
        return found

    def _count(self, skipped: int) -> None:
        self._fields += 1
        self._skipped += skipped
        if self._fields > MAX_FIELDS_OF_A_FILE:
            raise ProtobufError(f"more than {MAX_FIELDS_OF_A_FILE} fields")
        if self._skipped > MAX_BYTES_OF_RUNS:
            raise ProtobufError(f"attributes of more than {MAX_BYTES_OF_RUNS >> 20} MiB")


def read_numbers(content: int | memoryview, most: int) -> list[int]:
    """The numbers in one field of a repeated NUMBER, packed or not.

    Raises ProtobufError for more than ``most``.
    """
    if isinstance(content, int):
        return [content]
    numbers: list[int] = []
    position = 0
    while position < len(content):
        if len(numbers) == most:
            raise ProtobufError(f"more than {most} numbers")
        number, position = _read_number(content, position)
        numbers.append(number)
    return numbers


def count_numbers(content: int | memoryview, wire_type: int) -> int:
    """How many there are in one field of a repeated number of ``wire_type``, packed or not.

    BYTES are never packed: they count as one.
    """
    if isinstance(content, int) or wire_type == BYTES:
        return 1
    if wire_type != NUMBER:  # one that is not packed has 4 or 8 bytes
        return len(content) // (4 if wire_type == FOUR_BYTES else 8)
    # Each number has one last byte, in which the highest bit is not set.
    chunks = (content[start : start + (1 << 20)] for start in range(0, len(content), 1 << 20))
    return sum(len(bytes(chunk).translate(None, _NOT_LAST)) for chunk in chunks)


_NOT_LAST = bytes(range(0x80, 0x100))


def _read_tag(message: memoryview, position: int) -> tuple[int, int, int]:
    """A field's number, its wire type, and the position behind them."""
    tag, after = message[position], position + 1
    if tag >= 0x80:
        tag, after = _read_number(message, position)
        # Readers differ in which longer spellings they take.
        if tag > _MAX_TAG or not message[after - 1]:
            raise ProtobufError("a field without a proper number")
    if tag < 8:
        raise ProtobufError("a field with the number 0")
    return tag >> 3, tag & 7, after


def _read_content(message: memoryview, position: int, wire_type: int) -> tuple[Any, int]:
    if wire_type == NUMBER:
        return _read_number(message, position)
    if wire_type == BYTES:
        size, position = _read_number(message, position)
    elif wire_type in (FOUR_BYTES, EIGHT_BYTES):
        size = 4 if wire_type == FOUR_BYTES else 8
    else:
        raise ProtobufError("a group, or a field of an unknown type")
    if size > len(message) - position:
        raise ProtobufError("a field that runs past the end")
    return message[position : position + size], position + size


def _read_number(message: memoryview, position: int) -> tuple[int, int]:
    try:
        if message[position] < 0x80:
            return message[position], position + 1
        number, position = read_varint(message, position)
    except (ValueError, IndexError):
        raise ProtobufError("a number that does not end") from None
    if number >= 1 << 64:
        raise ProtobufError("a number of more than 64 bits")
    return number, position
