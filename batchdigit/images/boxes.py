"""Formats that are made of boxes, looked through before a decoder sees them.

Their decoders fill what is missing with black and say nothing: libheif the tiles of a photo, and
OpenJPEG those of a file that ends between two of them. So what a file's directories promise must be
there. (ISO/IEC 14496-12 and 23008-12 for HEIC and AVIF, 15444-1 for JPEG 2000.)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from batchdigit.errors import ImageError
from batchdigit.images.tags import check_tags

MAX_BOXES = 100_000  # boxes, items, extents, marker segments
MAX_TILES = 16_384  # of JPEG 2000; OpenJPEG takes 10 KB for each, however small it is
MAX_COMPONENTS = 4

_EXIF_OFFSET = 4  # bytes, before what an Exif item holds
_SIZ, _SOT, _EOC = 0xFF51, 0xFF90, 0xFFD9
_SIZE_OF_IMAGE = struct.Struct(">2x8IH")  # of the segment SIZ, behind its length
_CODESTREAM = b"\xff\x4f\xff\x51"


class _Box(NamedTuple):
    kind: bytes
    start: int  # of its content
    end: int


class _Extent(NamedTuple):
    item: int
    within_file: bool  # or else within the box idat
    start: int
    length: int


def check_heif(data: bytes) -> None:
    """Raise ImageError if parts of an HEIC or AVIF file are missing, or its EXIF claims too much.

    What is broken in other ways is left to the decoder.
    """
    for meta in _boxes(data, 0, len(data)):
        if meta.kind != b"meta":
            continue
        inner = {box.kind: box for box in _boxes(data, meta.start + 4, meta.end)}
        try:
            extents = _extents(data, inner[b"iloc"]) if b"iloc" in inner else []
            described = _exif_items(data, inner[b"iinf"]) if b"iinf" in inner else set()
        except (struct.error, IndexError):
            continue
        exif: dict[int, bytearray] = {}
        for extent in extents:
            start = extent.start
            if not extent.within_file:
                start += inner[b"idat"].start if b"idat" in inner else 0
            if start + extent.length > len(data):
                raise ImageError("decode", "truncated: parts of the image are missing")
            if extent.item in described:
                part = data[start : start + extent.length]
                exif[extent.item] = exif.get(extent.item, bytearray()) + part
        for found in map(bytes, exif.values()):
            offset = int.from_bytes(found[:_EXIF_OFFSET], "big")
            for start in {_EXIF_OFFSET, _EXIF_OFFSET + offset}:  # decoders differ
                check_tags(found[start:])


def check_jpeg2000(data: bytes, max_pixels: int) -> None:
    """Raise ImageError unless all tiles of a JPEG 2000 file are there, and not too many.

    A tile may have three numbers for each of ``max_pixels``.
    """
    start, end = 0, len(data)
    if not data.startswith(_CODESTREAM):
        boxes = {box.kind: box for box in _boxes(data, 0, end)}
        if b"jp2c" not in boxes:
            raise ImageError("decode", "truncated: there are no pixels")
        start, end = boxes[b"jp2c"].start, boxes[b"jp2c"].end
        if end > len(data):
            raise ImageError("decode", "truncated: its last box runs past the end of the file")
        if b"jp2h" in boxes:
            _check_header(data, boxes[b"jp2h"], start)
    try:
        _check_codestream(data, start, end, 3 * max_pixels)
    except struct.error as error:
        raise ImageError("decode", "truncated: it ends within a marker") from error


def _check_header(data: bytes, header: _Box, codestream: int) -> None:
    """Raise ImageError if the header says that the image has another size than its pixels have."""
    for box in _boxes(data, header.start, header.end):
        if box.kind == b"ihdr" and len(data) >= max(box.start + 8, codestream + 38):
            right, bottom, left, top = struct.unpack_from(">4I", data, codestream + 8)
            height, width = struct.unpack_from(">2I", data, box.start)
            if (width, height) != (right - left, bottom - top):
                raise ImageError("decode", "its header and its pixels differ in size")


def _check_codestream(data: bytes, start: int, end: int, most: int) -> None:
    position, segments, tiles = start + 2, 0, 0
    seen = set[int]()
    while True:
        (marker,) = struct.unpack_from(">H", data, position)
        if marker == _EOC:
            break
        segments += 1
        if segments > MAX_BOXES:
            raise ImageError("decode", f"more than {MAX_BOXES} segments")
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker == _SIZ:
            tiles = _tiles(_SIZE_OF_IMAGE.unpack_from(data, position + 4), most)
        if marker == _SOT:  # what follows is a part of a tile, with a length of its own
            number, length = struct.unpack_from(">HI", data, position + 4)
            seen.add(number)
            if not length:  # up to the end of the image
                if data[end - 2 : end] != _EOC.to_bytes(2, "big"):
                    raise ImageError("decode", "truncated: it has no end")
                break
            length -= 2
        position += 2 + max(length, 0)
        if position + 2 > end:
            raise ImageError("decode", "truncated: a part runs past the end of the file")
    if len(seen) < tiles:
        raise ImageError("decode", f"truncated: {tiles - len(seen)} of {tiles} tiles are missing")


def _tiles(size: tuple[int, ...], most: int) -> int:
    """How many tiles there are. Raises ImageError if one has more than ``most`` numbers."""
    right, bottom, _, _, width, height, left, top, components = size
    if components > MAX_COMPONENTS:
        raise ImageError("decode", f"more than {MAX_COMPONENTS} components")
    if not width or not height:
        raise ImageError("decode", "tiles without a size")
    tiles = math.ceil(max(right - left, 0) / width) * math.ceil(max(bottom - top, 0) / height)
    if tiles > MAX_TILES:
        raise ImageError("decode", f"more than {MAX_TILES} tiles")
    if min(right - left, width) * min(bottom - top, height) * components > most:
        raise ImageError("too-large", f"a tile of more than {most} numbers")
    return tiles


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    """The boxes between two places; the last may claim to run past ``end``."""
    for _ in range(MAX_BOXES):
        if start + 8 > min(end, len(data)):
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1 and start + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        after = start + size if size else end
        if size and size < header:
            return
        yield _Box(kind, start + header, after)
        start = after
    raise ImageError("decode", f"more than {MAX_BOXES} boxes")


def _extents(data: bytes, box: _Box) -> list[_Extent]:
    """Where the items lie, as the box iloc says. Raises struct.error where it is not whole."""
    version = data[box.start]
    (sizes,) = struct.unpack_from(">H", data, box.start + 4)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    position = box.start + 6

    def number(size: int) -> int:
        nonlocal position
        position += size
        if position > min(box.end, len(data)):
            raise struct.error
        return int.from_bytes(data[position - size : position], "big")

    wide = 4 if version == 2 else 2
    extents: list[_Extent] = []
    for _ in range(number(wide)):
        item = number(wide)
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)  # the file: this one
        base = number(base_size)
        for _ in range(number(2)):
            number(index_size)
            start, length = base + number(offset_size), number(length_size)
            if method < 2:
                extents.append(_Extent(item, method == 0, start, length))
            if len(extents) > MAX_BOXES:
                raise ImageError("decode", f"more than {MAX_BOXES} extents")
    return extents


def _exif_items(data: bytes, box: _Box) -> set[int]:
    """The numbers of the items that hold EXIF data, as the box iinf says."""
    wide = 2 if data[box.start] == 0 else 4
    items = set[int]()
    for entry in _boxes(data, box.start + 4 + wide, box.end):
        form = ">I2x4s" if data[entry.start] > 2 else ">H2x4s"
        number, kind = struct.unpack_from(form, data, entry.start + 4)
        if kind == b"Exif":
            items.add(number)
    return items
