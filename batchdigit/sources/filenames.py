r"""File names as bytes on disk, as text in a report, and a million of them in little memory.

A POSIX file name is any bytes but ``/`` and NUL; a report is UTF-8 text. The escape below maps
one to the other without loss and leaves every ordinary name as it is:

* a byte that is not part of valid UTF-8 is written ``\xHH`` (two lower-case hex digits);
* a backslash in front of something that reads like such an escape is written ``\x5c``;
* a name that a spreadsheet would take for a formula (it starts with ``= + - @``, TAB or CR) gets
  ``./`` in front, which is still its path.
"""

from __future__ import annotations

import re

EXTENSIONS = (
    *(b".png", b".jpg", b".jpeg", b".jpe", b".jfif", b".bmp", b".gif"),
    *(b".tif", b".tiff", b".webp", b".pgm", b".ppm"),
)
"""How the names of images end, in any case."""

_LOOKS_ESCAPED = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def escape_filename(name: bytes) -> str:
    """The text that stands for the relative path ``name`` in a report."""
    if b"\\" in name:
        name = _LOOKS_ESCAPED.sub(rb"\\x5c", name)
    text = name.decode("utf-8", "backslashreplace")
    return "./" + text if text.startswith(_FORMULA_STARTS) else text


def unescape_filename(text: str) -> bytes:
    """The relative path, as bytes, that a report's ``filename`` stands for.

    Undoes :func:`escape_filename`; ``os.path.join(os.fsencode(root), unescape_filename(cell))``
    opens the file.
    """
    name = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8"))
    return name.removeprefix(b"./")
