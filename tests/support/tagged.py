"""TIFF files, and the EXIF data of other files, made by hand: with tags that no program writes."""

import io
import struct
import zlib
from collections.abc import Mapping

from PIL import Image

Entry = tuple[int, int, int]
"""The type, the number of items, and the value or its offset."""

PAGE = {256: (4, 1, 28), 257: (4, 1, 28), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def directory(tags: Mapping[int, Entry]) -> bytes:
    entries = (struct.pack("<HHII", number, *entry) for number, entry in sorted(tags.items()))
    return struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", 0)


def tagged(
    kind: int,
    items: int,
    *,
    number: int = 50_000,
    below: int | None = None,
    pixels: bytes = b"",
    **more: Entry,
) -> bytes:
    """A directory with one tag of so many items, in the directory ``below`` refers to or the first.

    With ``pixels`` it is a TIFF image of 28x28, without them EXIF data; ``more`` are tags.
    """
    tags = {int(name.removeprefix("tag")): entry for name, entry in more.items()}
    if pixels:
        tags |= PAGE | {273: (4, 1, 8), 278: (4, 1, 28), 279: (4, 1, len(pixels))}
    at = 8 + len(pixels)
    inner = b""
    if below is None:
        tags[number] = (kind, items, 0)
        tags[number] = (kind, items, at + len(directory(tags)))
    else:
        tags[below] = (4, 1, 0)
        place = at + len(directory(tags))
        tags[below] = (4, 1, place)
        inner = directory({number: (kind, items, place + 18)})
    data = b"\x85" * (SIZES[kind] * items)
    return b"II*\0" + struct.pack("<I", at) + pixels + directory(tags) + inner + data


def overlapping(count: int, size: int) -> bytes:
    """EXIF data with tags that all name the same bytes."""
    tags = dict.fromkeys(range(1000, 1000 + count), (7, size, 0))
    at = 8 + len(directory(tags))
    tags = dict.fromkeys(tags, (7, size, at))
    return b"II*\0" + struct.pack("<I", 8) + directory(tags) + b"\x85" * size


def png(
    exif: bytes = b"",
    *,
    width: int = 28,
    height: int = 28,
    chunks: bytes = b"",
    grey_and_alpha: bool = False,
) -> bytes:
    """A white PNG of 8-bit grey."""
    packed = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (width * (1 + grey_and_alpha))
    many = max(1, min(height, 1_000_000 // len(row)))
    data = [packed.compress(row * many) for _ in range(height // many)]
    data += [packed.compress(row * (height % many)), packed.flush()]
    header = struct.pack(">2I5B", width, height, 8, 4 * grey_and_alpha, 0, 0, 0)
    more = chunk(b"eXIf", exif) if exif else b""
    pixels = chunk(b"IDAT", b"".join(data))
    parts = chunk(b"IHDR", header) + more + chunks + pixels + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def avif(exif: bytes) -> bytes:
    """A white AVIF with EXIF data that no program writes, of a single tag."""
    (kind,) = struct.unpack_from("<H", exif, 12)
    harmless = struct.pack("<HH", 50_000, kind)  # Pillow itself looks at others while it writes
    file = io.BytesIO()
    Image.new("L", (28, 28), 255).save(file, "AVIF", exif=exif[:10] + harmless + exif[14:])
    return file.getvalue().replace(harmless, exif[10:14])


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def saved(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (28, 28), 255).save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def jpeg(exif: bytes = b"", segments: bytes = b"") -> bytes:
    """A JPEG without a header of JFIF, so that Pillow looks for its resolution in EXIF."""
    plain = saved("JPEG")
    parts = (exif[start : start + 65_527] for start in range(0, len(exif), 65_527))
    written = b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts)
    return plain[:2] + written + segments + plain[20:]


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def gif(blocks: int, size: int = 1) -> bytes:
    """A GIF with a comment of so many blocks."""
    plain = saved("GIF")
    start = 13 + (3 << ((plain[10] & 7) + 1) if plain[10] & 128 else 0)
    comment = b"!\xfe" + (bytes([size]) + b"A" * size) * blocks + b"\0"
    return plain[:start] + comment + plain[start:]
