"""The names of a million images in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from batchdigit.sources.filenames import escape_filename

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FileList:
    """The names of many images, held as one run of bytes and its offsets.

    A name is the one in the report, as bytes; for a file, its path relative to the root of its
    source. A Python list of a million names is a million objects, which every worker process would
    copy bit by bit as their reference counts change. This is two objects, whatever the length.
    """

    __slots__ = ("_names", "_offsets")

    def __init__(self, names: Iterable[bytes] = ()) -> None:
        joined = bytearray()
        self._offsets = array("Q", [0])
        for name in names:
            joined += name
            self._offsets.append(len(joined))
        self._names = bytes(joined)

    @classmethod
    def from_arrays(cls, names: NDArray[np.uint8], offsets: NDArray[np.uint64]) -> FileList:
        """Undo :meth:`as_arrays`. Raises ValueError if the two do not fit together."""
        files = cls()
        files._names = names.tobytes()
        files._offsets = array("Q", offsets.astype("u8").tobytes())
        ascending = bool((offsets[1:] >= offsets[:-1]).all())
        if not len(offsets) or offsets[0] or offsets[-1] != len(names) or not ascending:
            raise ValueError("the offsets do not fit the names")
        return files

    def as_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """The joined names, and the offsets where each name begins and the last one ends."""
        import numpy as np  # here, because most that import this module need no array

        return np.frombuffer(self._names, np.uint8), np.array(self._offsets, np.uint64)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        """The name of image ``index``."""
        if index < 0:  # for an index that is too large, the array raises
            raise IndexError(index)
        return self._names[self._offsets[index] : self._offsets[index + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))

    def filename(self, index: int) -> str:
        """The ``filename`` of image ``index`` in a report."""
        return escape_filename(self[index])
