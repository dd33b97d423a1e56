"""A report on a terminal, which would obey some of the characters that file names may hold."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_OBEYED = "\n\t"  # the end of a row, and the delimiter of TSV
_WITHOUT_OBEYED = str.maketrans("", "", _OBEYED)


class ForTerminal(io.RawIOBase):
    r"""Passes UTF-8 text on to ``stream``, and spells out what cannot be seen, as in ``\x1b[2J``.

    What goes to a file or a pipe is not spelled out, so that it can be undone.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        """Whether it can be written to: yes."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Pass on what is whole; half a character waits for its rest."""
        raw = bytes(data)
        text = self._decoder.decode(raw)
        if not text.translate(_WITHOUT_OBEYED).isprintable():
            text = "".join(map(_spelled, text))
        self._stream.write(text.encode())
        return len(raw)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def _spelled(character: str) -> str:
    if character.isprintable() or character in _OBEYED:
        return character
    return character.encode("unicode_escape").decode()
