"""Whether a file has more pages, or frames, than the first, which is the only one that is read.

Only directories and the heads of blocks are looked at; nothing is decoded. What is broken has no
more pages. Reduced copies, masks, thumbnails, the second image of a phone's JPEG, and the sizes of
an icon are no pages.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Mapping

from batchdigit.images.containers import GIF_HEADER, PNG_SIGNATURE, gif_table_size
from batchdigit.images.tags import directories

MAX_DIRECTORIES = 100  # of reduced copies in a row
MAX_BLOCKS = 200_000  # that are skipped in search of a second frame, in some hundredths of a second

# Tags of TIFF, the last of which the thumbnails of cameras have.
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _JPEG_OFFSET = 254, 255, 256, 513
_REDUCED, _MASK = 1, 4  # bits of the first of them
_OLD_REDUCED = 2  # a value of the second
_SEQUENCES = (b"avis", b"hevc", b"hevx", b"msf1")  # brands of ISO/IEC 23008-12 and of AVIF
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_NETPBM = re.compile(rb"P([456])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})")
_NETPBM_MOST = re.compile(_SPACE + rb"(\d{1,5})")


def has_more_pages(data: bytes) -> bool:
    """Whether the contents of an image file hold a second page or frame; False for what is broken.

    It takes a tenth of a second at most, whatever the file claims.
    """
    looks: dict[bytes, Callable[[bytes], bool]] = {
        PNG_SIGNATURE: _png,
        b"GIF8": _gif,
        b"RIFF": _webp,
        b"II": _tiff,
        b"MM": _tiff,
        b"P": _netpbm,
    }
    if data[4:8] == b"ftyp":
        return data[8:12] in _SEQUENCES
    for start, look in looks.items():
        if data.startswith(start):
            try:
                return look(data)
            except (struct.error, IndexError):
                return False
    return False


def _tiff(data: bytes) -> bool:
    """TIFF 6.0: directories are a chain, and the first tags say what each is for."""
    others = itertools.islice(directories(data), 1, MAX_DIRECTORIES)
    return any(_WIDTH in tags and not _is_copy(tags) for tags in others)


def _is_copy(tags: Mapping[int, int]) -> bool:
    copy = tags.get(_NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)
    return bool(copy) or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED or _JPEG_OFFSET in tags


def _png(data: bytes) -> bool:
    """APNG, as in the PNG specification, third edition: frames are counted before the pixels.

    The image that others see is a frame only if a chunk fcTL stands before it.
    """
    position, frames, is_frame = len(PNG_SIGNATURE), 0, False
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            return frames > is_frame
        if kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, position + 8)
        is_frame |= kind == b"fcTL"
        position += 12 + length


def _gif(data: bytes) -> bool:
    """GIF 89a: blocks after a header; an image is a descriptor, its colours and its pixels."""
    (flags,) = GIF_HEADER.unpack_from(data)
    position, images, inside = GIF_HEADER.size + gif_table_size(flags), 0, False
    for _ in range(MAX_BLOCKS):
        kind = data[position]
        if inside:  # an image or an extension, whose parts follow their sizes
            position += 1 + kind
            inside = kind > 0
        elif kind == 0x2C:
            images += 1
            if images == 2:
                return True
            position += 11 + gif_table_size(data[position + 9])
            inside = True
        elif kind == 0x21:
            position += 2
            inside = True
        elif kind == 0x3B:
            return False
        else:
            position += 1
    return False


def _webp(data: bytes) -> bool:
    """The WebP container: a frame of an animation is a chunk ANMF."""
    if data[8:16] != b"WEBPVP8X" or not data[20] & 2:
        return False
    position, frames = 12, 0
    for _ in range(MAX_BLOCKS):
        kind, size = struct.unpack_from("<4sI", data, position)
        frames += kind == b"ANMF"
        if frames == 2:
            return True
        position += 8 + size + size % 2
    return False


def _netpbm(data: bytes) -> bool:
    """Netpbm's binary formats: one image may follow another."""
    head = data[:4096]
    if not (match := _NETPBM.match(head)):
        return False
    kind, (width, height), end = match[1], map(int, match.groups()[1:]), match.end()
    size = (width + 7) // 8 * height
    if kind != b"4":
        if not (most := _NETPBM_MOST.match(head, end)):
            return False
        end = most.end()
        size = width * height * (3 if kind == b"6" else 1) * (2 if int(most[1]) > 255 else 1)
    end += 1 + size
    return data[end : end + 4096].lstrip()[:2] in (b"P4", b"P5", b"P6")
