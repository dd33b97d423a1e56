"""As much of the protocol buffers' encoding as an ONNX file needs.

It is described at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_FIELDS = 100  # in a message: the graph has 33
Message = list[bytes | memoryview]  # in pieces, so that weights are copied only once, at the end


def text_field(number: int, text: str) -> Message:
    """A field that holds text."""
    return bytes_field(number, [text.encode()])


def bytes_field(number: int, message: Message) -> Message:
    """A field that holds a message or bytes."""
    return [varint(number << 3 | 2), varint(sum(map(len, message))), *message]


def number_field(number: int, value: int) -> Message:
    """A field that holds a whole number, 0 or more."""
    return [varint(number << 3), varint(value)]


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


def fields(message: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a message: their numbers, each with its content or its whole number.

    Raises ValueError or IndexError for what this program does not write: other types of fields, a
    field that runs past the end, more than MAX_FIELDS fields.
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
