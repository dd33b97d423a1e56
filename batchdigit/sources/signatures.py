"""What the first bytes of a file say that it is.

A name says little: phones save HEIC as ``.jpg``, browsers ``2.png?size=2``, and many programs no
ending at all. The names are those that messages use; those of decoders are Pillow's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

HEAD = 64  # bytes that are enough to recognise a file by

HEIC = "HEIC"
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"mif1", b"mif2", b"miaf", b"msf1"}
_DIB_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_NETPBM = re.compile(rb"P[1-6][\s#][\s\d#]")
_JPEG2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")


def format_of(head: bytes) -> str:
    """The format of an image that starts with ``head``, which should have HEAD bytes; or "".

    What only looks like an image by a letter or two, as text may, is none. TGA has nothing at its
    start that tells.
    """
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name
    return next((name for name, matches in _LESS_PLAIN.items() if matches(head)), "")


def _has_brand(head: bytes, brands: set[bytes]) -> bool:
    """Whether the box that a file of ISO/IEC 14496-12 starts with names one of the brands."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    places = [8, *range(16, end - 3, 4)]  # the version is between the first and the others
    return any(head[place : place + 4] in brands for place in places)


def _is_bitmap(head: bytes) -> bool:
    header = int.from_bytes(head[14:18], "little")
    return head.startswith(b"BM") and header in _DIB_HEADERS


def _is_icon(head: bytes) -> bool:
    """Whether it is a directory with something in it; the ninth byte of an entry is always 0."""
    return head.startswith(b"\0\0\1\0") and any(head[4:6]) and head[9:10] == b"\0"


_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    **dict.fromkeys(_JPEG2000, "JPEG2000"),
    b"8BPS": "PSD",
    # Nothing here decodes what follows, but it must not vanish.
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"II\xbc\1": "JPEG XR",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance",
    b"gimp xcf": "XCF",
    b"qoif": "QOI",
    b"DDS \x7c\0\0\0": "DDS",
}
_LESS_PLAIN: dict[str, Callable[[bytes], bool]] = {
    "WEBP": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    # A file may name brands of several; the first of these says what its main image is in.
    "AVIF": lambda head: _has_brand(head, _AVIF_BRANDS),
    HEIC: lambda head: _has_brand(head, _HEIC_BRANDS | _HEIF_BRANDS),
    "BMP": _is_bitmap,
    "PPM": lambda head: bool(_NETPBM.match(head)),
    "ICO": _is_icon,
}
