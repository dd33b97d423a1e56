"""As much of the protocol buffers' encoding as an ONNX file needs.

It is described at https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_FIELDS = 100  # in a message: the graph has 33
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


def read_fields(message: bytes | memoryview, wire_types: Mapping[int, int]) -> dict[int, list[Any]]:
    """The fields of a message by number: each one's contents, in the order of the message.

    ``wire_types`` says of every field that there may be how it is encoded: as a NUMBER, or as BYTES
    (a memoryview). A reader that took the message's word for it would mistake a number for the
    length of a text.

    Raises ValueError or IndexError for what this program does not write: other fields, other wire
    types, a field that runs past the end, more than MAX_FIELDS fields.
    """
    view = memoryview(message)
    found: dict[int, list[Any]] = {number: [] for number in wire_types}
    position = 0
    for _ in range(MAX_FIELDS):
        if position == len(view):
            return found
        tag, position = read_varint(view, position)
        value, position = read_varint(view, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_types.get(number) != wire_type:
            break
        if wire_type == NUMBER:
            found[number].append(value)
            continue
        if value > len(view) - position:
            break
        found[number].append(view[position : position + value])
        position += value
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
