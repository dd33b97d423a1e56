r"""File names as bytes on disk and as text in a report.

A POSIX file name may hold any bytes but ``/`` and NUL, while a report is UTF-8 text. The escapes
below map one to the other without loss, and leave every ordinary name as it is:

* a byte that is not part of valid UTF-8 is written ``\xHH`` (two lower-case hex digits);
* a backslash before something that looks like such an escape is written ``\x5c``;
* a name that a spreadsheet would take for a formula, because it starts with ``= + - @``, also after
  spaces and control characters, gets ``./`` in front, which is still its path.
"""

from __future__ import annotations

import re

from batchdigit.labels import FORMULA_STARTS

_LOOKS_ESCAPED = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")
_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_STARTS_A_FORMULA = re.compile(f"[\\s\\x00-\\x1f\\x7f]*[{re.escape(''.join(FORMULA_STARTS))}\t\r]")


def escape_filename(name: bytes) -> str:
    """The ``filename`` of the relative path ``name`` in a report."""
    if b"\\" in name:
        name = _LOOKS_ESCAPED.sub(rb"\\x5c", name)
    text = name.decode("utf-8", "backslashreplace")
    return "./" + text if _STARTS_A_FORMULA.match(text) else text


def unescape_filename(text: str) -> bytes:
    """The relative path, as bytes, of a ``filename`` in a report.

    Undoes :func:`escape_filename`; ``os.path.join(os.fsencode(root), unescape_filename(cell))``
    opens the file.
    """
    name = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8"))
    return name.removeprefix(b"./")
