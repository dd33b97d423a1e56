"""From the contents of a file, none of which is trusted, to the pixels of an image.

Pillow decodes; it is restricted to a few formats and a number of pixels, and never makes up the
missing part of a truncated file. What surrounds the pixels is checked beforehand
(:mod:`batchdigit.images.containers`). The plainest PNG files, as most files of digits are, go
straight to Pillow's own decoder for them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from batchdigit.errors import ImageError
from batchdigit.images.containers import (
    MAX_SIDE,
    PNG_SIGNATURE,
    check_container,
    has_transparency,
    icon_content,
)
from batchdigit.images.decoders import TRIED, decoder_of, opened
from batchdigit.images.tags import SIGNATURES as TIFF_SIGNATURES
from batchdigit.job import MAX_PIXELS
from batchdigit.sources.signatures import HEAD, format_of

# How a plain PNG starts: everything before the width in the header, width, height, depth to
# interlacing, the header's checksum, the length of the pixel data, their name. Behind the data
# stand their checksum and the last chunk.
_PLAIN_PNG = struct.Struct(">16sII5sII4s")
_PLAIN_START = PNG_SIGNATURE + b"\0\0\0\x0dIHDR"
_PLAIN_GREY = b"\x08\0\0\0\0"
_PLAIN_END = struct.Struct(">I12s")
_IEND = b"\0\0\0\0IEND\xaeB\x60\x82"
_ONE_AT_A_TIME = threading.RLock()
_NOTHING = contextlib.nullcontext()
MAX_CANVAS = 64 * 64  # pixels
_NO_MEMORY = re.compile(r"out of memory|decoder error -9\b")
_UNSUPPORTED = re.compile("unsupported|not supported|not available", re.IGNORECASE)
_CUT_SHORT = re.compile(r"truncated|\bEOF|only got", re.IGNORECASE)
_ADDRESS = re.compile(r"<.* object at 0x[0-9a-f]+>")


@contextlib.contextmanager
def strict_pillow(max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Make Pillow follow this module's rules, whatever the process around it has set.

    The settings are global in Pillow, so only one thread at a time decodes. Enter this once for a
    batch rather than once for an image.
    """
    with _ONE_AT_A_TIME:
        yield from _strict_pillow(max_pixels)


def _strict_pillow(max_pixels: int) -> Iterator[None]:
    truncated, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Between its limit and twice its limit Pillow only warns.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
        Image.MAX_IMAGE_PIXELS = limit


def decode_image(data: bytes, *, enough: int | None = None, name: bytes = b"") -> Image.Image:
    """The first image of a file's contents, with its pixels loaded.

    The ending of its ``name`` counts for formats that have no first bytes to recognise them by.

    A JPEG may be decoded at half, a quarter or an eighth of its size, which takes a fraction of the
    time, as long as its larger side keeps ``enough`` pixels.

    Call it inside ``strict_pillow()``. Raises ImageError (``decode``, ``too-large``, or
    ``unsupported`` for a format that nothing here decodes) for whatever is wrong with the data,
    with the same text for the same bytes, and MemoryError.
    """
    if not data:
        raise ImageError("decode", "the file is empty")
    decoder = decoder_of(data, name)
    try:
        if decoder == "ICO":
            data = icon_content(data)
            decoder = decoder_of(data)  # it may be a PNG
        check_container(data, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
        silenced = _silenced_stderr() if data.startswith(TIFF_SIGNATURES) else _NOTHING
        with silenced, opened(data, decoder) as found:
            _check_sides(found)
            if enough is not None and max(found.size) >= 2 * enough:
                factor = enough / max(found.size)
                width, height = (max(1, int(side * factor)) for side in found.size)
                found.draft(None, (width, height))
            found.load()
            _check_sides(found)  # those of HEIC are known only now
            image: Image.Image = found
            if found.mode == "RGBA" and not has_transparency(data, decoder):
                image = found.convert("RGB")
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too-large", f"more than {Image.MAX_IMAGE_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError("decode", _what_it_is(data, decoder)) from error
    except MemoryError:  # which says nothing about the data
        raise
    except Exception as error:
        # Damaged files make Pillow's plugins raise almost anything: OSError, ValueError,
        # SyntaxError, struct.error, IndexError and more.
        if _NO_MEMORY.search(str(error)):  # code in C says so
            raise MemoryError from error
        form = decoder or format_of(data[:HEAD]) or "image"
        raise ImageError("decode", _what_is_wrong(error, form)) from error
    return image


def _what_is_wrong(error: Exception, form: str) -> str:
    """What is wrong with an image of this format, which made a plugin of Pillow raise ``error``.

    Some of their texts are for programmers: "could not create decoder object".
    """
    said = _ADDRESS.sub("the file", str(error)) or type(error).__name__
    if said.startswith("image file is truncated"):  # and how many bytes are left over
        return f"truncated {form}"
    if _UNSUPPORTED.search(said):
        return f"{form}: {said}"
    return f"{'truncated' if _CUT_SHORT.search(said) else 'damaged'} {form}: {said}"


def _what_it_is(data: bytes, decoder: str) -> str:
    """What a file is that no decoder takes, and what to do about it."""
    from batchdigit.system.foreign import foreign  # few files need it

    if not format_of(data[:HEAD]) and (kind := foreign(data)):
        return "; ".join(filter(None, kind))
    return f"not a whole image in {decoder or ', '.join(TRIED)}"


def _check_sides(image: Image.Image) -> None:
    """Raise ImageError for an image that is too large; Pillow itself looks at its pixels alone."""
    if max(image.size) > MAX_SIDE:
        raise ImageError("too-large", f"a side of more than {MAX_SIDE} pixels")
    if image.width * image.height > (most := Image.MAX_IMAGE_PIXELS or MAX_PIXELS):
        raise ImageError("too-large", f"more than {most} pixels")


def decode_plain_png(data: bytes) -> NDArray[np.uint8] | None:
    """The pixels, uint8[H, W], of a PNG of 8-bit grey that holds nothing else; else None.

    Nothing else means: not interlaced, its pixel data in one chunk, no other chunks, and all
    checksums right. :func:`decode_image` reaches the same C code with the same bytes by a longer
    way; ask it about any other file.

    Call it inside ``strict_pillow()``.
    """
    if len(data) < _PLAIN_PNG.size:
        return None
    start, width, height, kind, header_crc, length, name = _PLAIN_PNG.unpack_from(data)
    plain = start == _PLAIN_START and kind == _PLAIN_GREY and name == b"IDAT"
    end = _PLAIN_PNG.size + length
    if not plain or end + _PLAIN_END.size > len(data):
        return None
    pixels_crc, last = _PLAIN_END.unpack_from(data, end)
    whole = zlib.crc32(data[12:29]) == header_crc and zlib.crc32(data[37:end]) == pixels_crc
    allowed = 0 < width * height <= (Image.MAX_IMAGE_PIXELS or 0) and max(width, height) <= MAX_SIDE
    if not whole or last != _IEND or not allowed:
        return None
    compressed = data[_PLAIN_PNG.size : end]
    try:
        if (canvas := _canvases.of_size(width, height)) is not None:
            canvas.pixels.fill(0)  # like a new image, because a stream may end before the last row
            canvas.image.frombytes(compressed, "zip", "L")
            return np.array(canvas.pixels)
        image = Image.frombytes("L", (width, height), compressed, "zip", "L")
    except (ValueError, OSError, OverflowError, MemoryError):
        return None
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width)


class _Canvas(NamedTuple):
    """An image and its pixels, uint8[H, W], which share memory."""

    image: Image.Image
    pixels: NDArray[np.uint8]


class _Canvases(threading.local):
    """The canvases of one thread, by size: two threads must not decode into the same one."""

    def __init__(self) -> None:
        self.of_size = functools.lru_cache(_new_canvas)


def _new_canvas(width: int, height: int) -> _Canvas | None:
    """A canvas for images of this size, if it is small.

    Decoding into an image that exists already, and whose pixels are at hand, takes half the time.
    """
    if width * height > MAX_CANVAS:
        return None
    pixels = np.zeros((height, width), np.uint8)
    image = Image.frombuffer("L", (width, height), pixels, "raw", "L", 0, 1)
    # Pillow documents that it shares the memory; whether it also writes there is tried here.
    image.frombytes(b"\1" * pixels.size)
    return _Canvas(image, pixels) if pixels.all() else None


_canvases = _Canvases()


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Throw away what C code writes to standard error.

    libtiff prints its warnings there, hundreds of lines for one damaged file, and Pillow has no
    switch for them. The error row says what is wrong.
    """
    try:
        saved = os.dup(2)
    except OSError:  # standard error is closed: nothing to silence
        yield
        return
    try:
        with contextlib.suppress(OSError):  # too many files are open: then they are printed
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
