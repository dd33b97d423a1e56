"""Protocol buffers, as much of them as an ONNX file takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_FIELDS = 100  # of a message: the graph has 33
Message = list[bytes | memoryview]  # in pieces, so that weights are copied once, at the end


def text_field(number: int, text: str) -> Message:
    """A field of text."""
    return bytes_field(number, [text.encode()])


def bytes_field(number: int, message: Message) -> Message:
    """A field of a message, or of bytes."""
    return [varint(number << 3 | 2), varint(sum(map(len, message))), *message]


def number_field(number: int, value: int) -> Message:
    """A field of a whole number, 0 or more."""
    return [varint(number << 3), varint(value)]


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the eighth set in all but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def fields(message: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a message: their numbers, and their content or whole number.

    Raises ValueError or IndexError where it is none.
    """
    view = memoryview(message)
    position = 0
    for _ in range(MAX_FIELDS):
        if position == len(view):
            return
        tag, position = read_varint(view, position)
        value, position = read_varint(view, position)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2 and value <= len(view) - position:
            yield tag >> 3, view[position : position + value]
            position += value
        else:
            break
    raise ValueError("not of this program")


def read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """Undo :func:`varint`: the number at ``position`` of the bytes, and where it ends.

    Raises ValueError or IndexError where there is none.
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
