"""Which of Pillow's decoders gets a file, and what to do where there is none for it.

A decoder is tried only where a file says by its first bytes, or by its ending if the format has no
such bytes, that it is in that format. Only the most common formats (``TRIED``) are tried in turn on
every other file.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from PIL import Image

from batchdigit.errors import ImageError
from batchdigit.sources.endings import ending_of
from batchdigit.sources.signatures import HEAD, HEIC, format_of
from batchdigit.system.working_folder import importing_elsewhere

TRIED = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
RECOGNISED = ("AVIF", "JPEG2000", "ICO", "PSD", "DIB", "TGA")
FORMATS = (*TRIED, *RECOGNISED)
"""The decoders of Pillow's that may get a file; HEIC's is another package."""

CONVERT = "convert it to PNG or JPEG"
_BY_ENDING = {b".tga": "TGA", b".dib": "DIB"}  # which have no first bytes that tell
# Those that start like TIFF. What Pillow would read there is a thumbnail.
_CAMERA_RAW = {b".dng", b".cr2", b".nef", b".nrw", b".arw", b".sr2", b".srw", b".pef", b".3fr"}
_FEATURES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # that Pillow may lack


def decoder_of(data: bytes, name: bytes = b"") -> str:
    """Which of RECOGNISED, or HEIC, a file is in; empty for one that is in TRIED or none.

    ``name`` is the file's. Raises ImageError (``unsupported``) for one that nothing here decodes;
    the message names the format and what to do.
    """
    form = format_of(data[:HEAD])
    ending = ending_of(name)
    if form == "TIFF" and ending in _CAMERA_RAW:
        raise ImageError("unsupported", f"{ending[1:].decode().upper()}, raw data; {CONVERT}")
    if form == HEIC:
        if not _heif():
            raise ImageError("unsupported", 'HEIC; pip install "batchdigit[heif]"')
        return form
    form = form or _BY_ENDING.get(ending, "")
    if not form or form in FORMATS:
        if form in _FEATURES and not _has(_FEATURES[form]):
            raise ImageError("unsupported", f"{form}; pip install --upgrade pillow")
        return form if form in RECOGNISED else ""
    raise ImageError("unsupported", f"{form}; {CONVERT}")


@contextlib.contextmanager
def opened(data: bytes, decoder: str) -> Iterator[Image.Image]:
    """The image in ``data``, its pixels not yet loaded; ``decoder`` as :func:`decoder_of` says.

    They are to be loaded inside. Raises whatever Pillow raises.
    """
    file = io.BytesIO(data)
    if decoder == HEIC:
        heif = _heif()
        # Thumbnails could show something else, and this process is one of many.
        with _set(
            heif.options, THUMBNAILS=False, DEPTH_IMAGES=False, AUX_IMAGES=False, DECODE_THREADS=1
        ):
            yield heif.HeifImageFile(file)
    elif decoder == "AVIF":
        from PIL import AvifImagePlugin

        with _set(AvifImagePlugin, DEFAULT_MAX_THREADS=1):
            yield Image.open(file, formats=(decoder,))
    else:
        yield Image.open(file, formats=(decoder,) if decoder else TRIED)


@functools.cache
def _heif() -> Any:
    """The module ``pillow_heif``, or None if it is not installed or cannot be loaded."""
    try:
        with importing_elsewhere():
            import pillow_heif
    except (ImportError, OSError):
        return None
    return pillow_heif


@functools.cache
def _has(feature: str) -> bool:
    from PIL import features  # few files ask

    return bool(features.check(feature))


@contextlib.contextmanager
def _set(module: ModuleType, **values: object) -> Iterator[None]:
    """Set variables of a module while the block runs."""
    before = {name: getattr(module, name) for name in values if hasattr(module, name)}
    vars(module).update({name: values[name] for name in before})
    try:
        yield
    finally:
        vars(module).update(before)
