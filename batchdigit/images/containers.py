"""What surrounds the pixels in a file, counted before Pillow makes an object of each part of it.

Ten million empty segments of a JPEG file, or blocks of a comment in a GIF file, become gigabytes.
Whatever is broken is left to Pillow, except for PNG, where Pillow does not look at the checksums of
pixel data.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from batchdigit.errors import ImageError
from batchdigit.images.tags import SIGNATURES as TIFF_SIGNATURES
from batchdigit.images.tags import check_tags

MAX_SIDE = 65_535  # pixels; Pillow takes 8 bytes for each row of each image, however short it is
MAX_PARTS = 100_000  # chunks, segments, blocks
MAX_EXIF = 16 << 20  # bytes, in all segments of a JPEG together; one has at most 64 KB
MAX_COMMENTS = 10_000  # in a plain PPM; Pillow looks for the end of each in all that it has read

_PLAIN_PPM = (b"P1", b"P2", b"P3")  # whose pixels are text, with comments among them
JPEG2000_SIGNATURES = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GIF_HEADER = struct.Struct("<6x2x2xB2x")  # of which the flags matter
# JPEG's markers that nothing follows. Pillow goes on behind that of the image's end, 0xD9.
_ALONE = {0x00, 0x01, *range(0xD0, 0xDA)}
_START_OF_SCAN, _APP1, _APP2 = 0xDA, 0xE1, 0xE2


def check_container(data: bytes, max_pixels: int) -> None:
    """Raise ImageError if what surrounds the pixels would cost more than the pixels may."""
    if data.startswith(PNG_SIGNATURE):
        check_png(data)
    elif data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(TIFF_SIGNATURES):
        check_tags(data, max_pixels)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data[4:8] == b"ftyp":
        from batchdigit.images.boxes import check_heif  # few files need it

        check_heif(data)
    elif data.startswith(JPEG2000_SIGNATURES):
        from batchdigit.images.boxes import check_jpeg2000

        check_jpeg2000(data, max_pixels)
    elif data.startswith(b"8BPS"):
        _check_psd(data)
    elif data[:2] in _PLAIN_PPM and data.count(b"#") > MAX_COMMENTS:
        raise ImageError("decode", f"more than {MAX_COMMENTS} comments")


def check_png(data: bytes) -> None:
    """Raise ImageError unless every chunk up to IEND is whole and has the right checksum.

    Layout and checksum (CRC-32 over type and data) follow the PNG specification, third edition,
    clause 5. Chunks that carry no pixels are checked too, because one flipped bit in its type makes
    a palette look like one of them. What follows IEND is not part of the image.
    """
    position = len(PNG_SIGNATURE)
    view = memoryview(data)
    others = 0
    while True:
        if position + 12 > len(data):
            raise ImageError("decode", "truncated PNG: it ends before its IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ImageError("decode", "truncated PNG: a chunk runs past the end of the file")
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != checksum:
            name = kind.decode("ascii", "backslashreplace")
            raise ImageError("decode", f"damaged PNG: wrong checksum in its chunk {name}")
        if kind == b"IEND":
            return
        others += kind != b"IDAT"
        _check_count(others, "chunks")
        position = end


def check_exif(info: Mapping[Any, Any]) -> None:
    """Raise ImageError if the EXIF data that Pillow has found (``Image.info``) claims too much."""
    exif, as_text = info.get("exif"), info.get("Raw profile type exif")
    exif = exif if isinstance(exif, bytes) else b""  # a text chunk of PNG may have that name, too
    as_text = as_text if isinstance(as_text, str) else ""
    if max(len(exif), len(as_text) // 2) > MAX_EXIF:
        raise ImageError("decode", f"more than {MAX_EXIF} bytes of EXIF data")
    check_tags(exif)
    with contextlib.suppress(ValueError):  # which is no hexadecimal
        check_tags(bytes.fromhex("".join(as_text.split("\n")[3:])))


def _check_jpeg(data: bytes) -> None:
    """Look at all segments before the first scan (ITU-T T.81, annex B)."""
    position, segments, exif = 2, 0, bytearray()
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            break
        segments += 1
        _check_count(segments, "segments")
        if marker == 0xFF:
            position += 1
            continue
        if marker in _ALONE:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        content = data[position + 4 : position + 2 + length]
        if marker == _APP1 and content.startswith(b"Exif\0\0"):
            exif += content[6 * bool(exif) :]
        elif marker == _APP2 and content.startswith(b"MPF\0"):
            check_tags(content[4:])
        if len(exif) > MAX_EXIF:
            raise ImageError("decode", f"more than {MAX_EXIF} bytes of EXIF data")
        position += 2 + length
    check_tags(bytes(exif))


def _check_gif(data: bytes) -> None:
    """Look at all blocks before the first image (GIF 89a)."""
    if len(data) < GIF_HEADER.size:
        return
    (flags,) = GIF_HEADER.unpack_from(data)
    position = GIF_HEADER.size + gif_table_size(flags)
    blocks = 0
    while position < len(data) and data[position : position + 1] not in (b",", b";"):
        blocks += 1
        is_extension = data[position] == 0x21
        position += 2 if is_extension else 1
        while is_extension and position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            _check_count(blocks, "blocks")
        position += is_extension
        _check_count(blocks, "blocks")


def gif_table_size(flags: int) -> int:
    """How many bytes a table of colours of a GIF file has, by the flags before it."""
    return int(3 * 2 ** (flags % 8 + 1)) if flags & 128 else 0


def _check_psd(data: bytes) -> None:
    """Look at all image resources (Adobe's Photoshop File Formats Specification)."""
    try:
        if (bits := struct.unpack_from(">H", data, 22)[0]) not in (1, 8):
            raise ImageError("unsupported", f"PSD of {bits} bits a channel; save it as PNG")
        position, end = _psd_resources(data)
        for count in itertools.count():
            if position >= end:
                return
            _check_count(count, "image resources")
            name = data[position + 6] | 1  # its length is even together with the byte before it
            (size,) = struct.unpack_from(">I", data, position + 7 + name)
            position += 11 + name + size + size % 2
    except (struct.error, IndexError):
        return


def _psd_resources(data: bytes) -> tuple[int, int]:
    """Where the image resources start and end. Raises struct.error where data ends before."""
    start = 26  # bytes of the header
    start += 4 + struct.unpack_from(">I", data, start)[0]  # the colours
    return start + 4, start + 4 + struct.unpack_from(">I", data, start)[0]


def has_transparency(data: bytes, form: str) -> bool:
    """Whether a fourth channel is transparency, as Pillow takes it for.

    In a PSD it may be a selection that somebody has saved, in a TGA anything.
    """
    if form not in ("TGA", "PSD"):
        return True
    if form == "TGA":
        return bool(data[17] & 15)  # how many bits of a pixel are its transparency
    try:
        _, layers = _psd_resources(data)
        length, _, number = struct.unpack_from(">IIh", data, layers)
    except struct.error:
        return False
    return length > 0 and number < 0  # so that the first of the other channels is transparency


def icon_content(data: bytes) -> bytes:
    """The largest image of an ICO file: a PNG, or an ICO with that image alone.

    Raises ImageError if it is not all there, or too long.
    """
    count = struct.unpack_from("<H", data, 4)[0]
    entries = [data[start : start + 16] for start in range(6, min(6 + 16 * count, len(data)), 16)]
    # A side of 0 stands for 256.
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[6:7]))
    if len(best) < 16:
        raise ImageError("decode", "truncated: its directory is not all there")
    size, start = struct.unpack_from("<II", best, 8)
    content = data[start : start + size]
    if len(content) < size or size < 16:
        raise ImageError("decode", "truncated: its largest image is not all there")
    if content.startswith(PNG_SIGNATURE):
        return content
    header, width, height = struct.unpack_from("<IIi", content)
    if header != 12 and max(width, abs(height) // 2) > MAX_SIDE:  # in one of 12, they are small
        raise ImageError("too-large", f"a side of more than {MAX_SIDE} pixels")
    return b"\0\0\1\0\1\0" + best[:12] + struct.pack("<I", 22) + content


def _check_count(count: int, what: str) -> None:
    if count > MAX_PARTS:
        raise ImageError("decode", f"more than {MAX_PARTS} {what}")
