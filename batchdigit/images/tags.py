"""The tags of TIFF files and of EXIF data, looked through before Pillow believes what they claim.

A tag of 60 MB can become 3 GB of Python's numbers, and ten thousand tags can claim the same bytes.
Pillow reads some tags of every image, and all of them to turn an image upright. The format is that
of TIFF 6.0, section 2, and of BigTIFF.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from batchdigit.errors import ImageError

MAX_VALUES = 300_000  # numbers in all tags together: an image of 65,535 rows has two for each
MAX_TAGS = 65_535
FIRST_TAGS = 64  # of a directory, in which its kind and its sizes are: tags are in order
SPARE_BYTES = 1 << 20  # that may be claimed twice: broken files do so, too

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PREFIXES = re.compile(rb"(?:Exif\0\0)+")
# Bytes of a value by the number of its type, from 0; there are no types 0, 14 and 15.
_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8)
_KEPT_AS_BYTES = (1, 2, 7)  # of all others Python makes numbers
_INTEGERS = {3: "H", 4: "L", 6: "B", 8: "H", 9: "L", 13: "L", 16: "Q"}
_TILE = (322, 323)  # its width and length
_MORE_TAGS = (34665, 34853, 40965)  # the offsets of EXIF's, GPS's, and Interoperability's


class _Tag(NamedTuple):
    number: int
    kind: int
    items: int
    value: bytes


class _Layout(NamedTuple):
    """How a directory of tags is written: its number of tags, a tag, and an offset."""

    number: struct.Struct
    tag: struct.Struct
    offset: struct.Struct


def check_tags(data: bytes | memoryview, max_tile: int | None = None) -> None:
    """Raise ImageError if the tags in ``data`` claim more than any image needs.

    ``data`` is a TIFF file or EXIF data. Other data, and what is broken, is left to Pillow. A tile
    may have at most ``max_tile`` pixels.
    """
    if prefixes := _PREFIXES.match(data):  # Pillow takes off more than one
        data = memoryview(data)[prefixes.end() :]
    if bytes(data[:4]) not in SIGNATURES:
        return
    order = "<" if bytes(data[:2]) == b"II" else ">"
    layout, first = _layout(data, order)
    pending, seen = [first], set[int]()
    values = claimed = 0
    tile: dict[int, int] = {}
    while pending:
        place = pending.pop()
        if place is None or place in seen:
            continue
        seen.add(place)
        for tag in _tags(data, place, layout):
            size = tag.items * (_SIZES[tag.kind] if tag.kind < len(_SIZES) else 0)
            if size > len(data):  # which cannot be read
                continue
            values += tag.items if size and tag.kind not in _KEPT_AS_BYTES else 0
            claimed += size
            if values > MAX_VALUES:
                raise ImageError("decode", f"more than {MAX_VALUES} values in its tags")
            if claimed > len(data) + SPARE_BYTES:
                raise ImageError("decode", "tags that claim the same bytes again and again")
            if tag.kind not in _INTEGERS:
                continue
            number = _number(tag.value, struct.Struct(order + _INTEGERS[tag.kind]))
            if tag.number in _MORE_TAGS:
                pending.append(number)
            elif tag.number in _TILE and place == first:
                tile[tag.number] = max(number or 0, tile.get(tag.number, 0))
    if max_tile is not None and tile and tile.get(_TILE[0], 1) * tile.get(_TILE[1], 1) > max_tile:
        raise ImageError("too-large", f"a tile of more than {max_tile} pixels")


def directories(data: bytes) -> Iterator[dict[int, int]]:
    """The directories of a TIFF file in their chain, each as the first tags that are integers.

    The chain ends where it comes to a directory for the second time, or leaves the file.
    """
    order = "<" if data.startswith(b"II") else ">"
    layout, place = _layout(data, order)
    seen = set[int]()
    while place and place not in seen:
        seen.add(place)
        start = place + layout.number.size
        count = _number(data[place:start], layout.number)
        if count is None:
            return
        few = data[start : start + min(count, FIRST_TAGS) * layout.tag.size]
        whole = len(few) // layout.tag.size * layout.tag.size
        tags = map(_Tag._make, layout.tag.iter_unpack(few[:whole]))
        yield {
            tag.number: _number(tag.value, struct.Struct(order + _INTEGERS[tag.kind])) or 0
            for tag in tags
            if tag.kind in _INTEGERS
        }
        end = start + count * layout.tag.size
        place = _number(data[end : end + layout.offset.size], layout.offset)


def _layout(data: bytes | memoryview, order: str) -> tuple[_Layout, int | None]:
    """How a file's directories are written, and where the first of them is."""
    big = 43 in data[2:4]
    forms = ("Q", "HHQ8s", "Q") if big else ("H", "HHL4s", "L")
    layout = _Layout(*(struct.Struct(order + form) for form in forms))
    start = 8 if big else 4
    return layout, _number(data[start : start + layout.offset.size], layout.offset)


def _tags(data: bytes | memoryview, place: int, layout: _Layout) -> Iterator[_Tag]:
    count = _number(data[place : place + layout.number.size], layout.number) or 0
    if count > MAX_TAGS:
        raise ImageError("decode", f"more than {MAX_TAGS} tags")
    start = place + layout.number.size
    end = start + count * layout.tag.size
    whole = (min(end, len(data)) - start) // layout.tag.size * layout.tag.size
    if whole > 0:
        yield from map(_Tag._make, layout.tag.iter_unpack(data[start : start + whole]))


def _number(data: bytes | memoryview, form: struct.Struct) -> int | None:
    """The number at the start of ``data``, or None where it is not whole."""
    return int(form.unpack_from(data)[0]) if len(data) >= form.size else None
