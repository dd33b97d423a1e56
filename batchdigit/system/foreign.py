"""What a file is that was given in place of another, by how it starts, and what to do about it.

For messages alone: nothing is read, or refused, because of what this module says.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

HEAD = 1024  # bytes that are looked at


class Foreign(NamedTuple):
    """What a file is, as a noun or a participle, and the remedy, or an empty text."""

    what: str
    remedy: str = ""


SAFETENSORS_FILE = Foreign("a safetensors file")
PICKLE = Foreign("a pickle")
HDF5 = Foreign("an HDF5 file")
TAR = Foreign("a tar archive", "unpack it first")
_PAGE = Foreign("a web page", "download the file itself, not the page that shows it")
_DRAWING = Foreign("an SVG drawing", "export it as PNG")
_VIDEO = Foreign("a video", "save a frame of it as PNG")
_SOUND = Foreign("a sound")
_RAW = Foreign("a camera's raw data", "convert it to PNG or JPEG")
_BASE64 = Foreign("an image in Base64", "decode it with base64 -d")
_MANGLED = Foreign("an image that was transferred as if it were text", "copy it again, as binary")

_STARTS: tuple[tuple[bytes, Foreign], ...] = (
    (
        b"version https://git-lfs",
        Foreign("a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    ),
    (b"%PDF-", Foreign("a PDF", "export its pages as images")),
    (b"%!PS", Foreign("a PostScript file", "export its pages as images")),
    (b"PK\x03\x04", Foreign("a ZIP archive", "unpack it first")),
    (b"Rar!\x1a\x07", Foreign("a RAR archive", "unpack it first")),
    (b"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", "unpack it first")),
    (b"\x1f\x8b", Foreign("compressed by gzip", "unpack it with gunzip first")),
    (b"BZh", Foreign("compressed by bzip2", "unpack it with bunzip2 first")),
    (b"\xfd7zXZ", Foreign("compressed by xz", "unpack it with unxz first")),
    (b"\x28\xb5\x2f\xfd", Foreign("compressed by zstd", "unpack it with unzstd first")),
    (b"\x89HDF", HDF5),
    (b"GGUF", Foreign("a GGUF file")),
    (b"\x93NUMPY", Foreign("a NumPy array", "save its images as PNG")),
    (b"PAR1", Foreign("a Parquet file")),
    (b"SQLite format 3\0", Foreign("an SQLite database")),
    (b"\0\x05\x16\x07", Foreign("what macOS keeps beside a file, not the file itself")),
    (b"SIMPLE  =", Foreign("a FITS file", "export it as PNG")),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIU\0", _RAW),
    (b"IIRO", _RAW),
    (b"MMOR", _RAW),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"FLV\1", _VIDEO),
    (b"\0\0\1\xba", _VIDEO),
    (b"OggS", _SOUND),
    (b"ID3", _SOUND),
    (b"fLaC", _SOUND),
    (b"iVBORw0KGgo", _BASE64),
    (b"/9j/", _BASE64),
    (b"data:image/", _BASE64),
    (b"\x89PNG\n", _MANGLED),
    (b"\x89PNG\r\r", _MANGLED),
    (b"\xef\xbf\xbdPNG", _MANGLED),
    (b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", _MANGLED),
)
_LETTERS: tuple[tuple[bytes, Foreign], ...] = (
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"<head", _PAGE),
    (b"<svg", _DRAWING),
    (b"<!doctype svg", _DRAWING),
)
_PATTERNS: tuple[tuple[bytes, Foreign], ...] = (
    (rb".{257}ustar", TAR),
    (rb".{128}DICM", Foreign("a DICOM file", "export it as PNG")),
    (rb".{4}ftypM4A", _SOUND),
    (rb".{4}ftypcrx ", _RAW),
    (rb".{4}ftyp(?:isom|iso\d|mp4\d|avc1|qt  |M4V|3g[p2]|dash)", _VIDEO),
    (rb"RIFF.{4}AVI ", _VIDEO),
    (rb"RIFF.{4}WAVE", _SOUND),
    (rb"\x80[\x02-\x05]", PICKLE),
    (rb".{5}\0\0\0\{\"", SAFETENSORS_FILE),
)
_NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def foreign(data: bytes) -> Foreign | None:
    """What ``data`` is by its first bytes, in lower or upper case where they are text, or None."""
    head = data[:HEAD]
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    for pattern, kind in _PATTERNS:
        if re.match(pattern, head, re.DOTALL):
            return kind
    return _by_text(head) or _if_zeros(data)


def _by_text(head: bytes) -> Foreign | None:
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        # A character may be cut off at the end.
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None
    if _NO_TEXT.search(text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower().encode()
    for letters, kind in _LETTERS:
        if start.startswith(letters) or (start.startswith(b"<?xml") and letters in start):
            return kind
    if start.startswith(b"<?xml"):
        return Foreign("an XML document", "see what it says")
    if start.startswith((b"{", b"[")):
        return Foreign("a JSON document", "see what it says")
    return Foreign("plain text", "see what it says") if start else None


def _if_zeros(data: bytes) -> Foreign | None:
    if data and not data.strip(b"\0"):
        return Foreign("nothing but zero bytes", "copy it again")
    return None
