"""What the last report said about each image, so that ``--update`` can reuse its rows.

The state of ``OUT`` is the hidden file ``.OUT.state`` beside it. It does not depend on the
report's format, and does not change if somebody edits the report. It is a sequence of frames (see
:mod:`batchdigit.resume.frames`): first blocks of predictions in the order of the images, then the
images with their sizes and times, then what the report was made with. The context of a frame is its
place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions
from batchdigit.resume.frames import (
    decoding,
    pack_arrays,
    pack_predictions,
    read_frame,
    reading_again,
    unpack_arrays,
    unpack_predictions,
    write_frame,
)
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps
from batchdigit.system.regular import open_own

VALUES_IN_A_BLOCK = 1 << 18  # bounds the memory

_CONTEXT = b"batchdigit state 2"


@dataclass(frozen=True, eq=False)
class State:
    """A report as it was published: N rows.

    ``failed`` bool[N] marks error rows; ``unread`` bool[N] marks those of images that could not be
    read at all, whatever they hold, or that nothing installed could decode. ``binding`` is what the
    rows depend on apart from the images, ``report`` is the size and SHA-256 of the report. Both are
    JSON data.
    """

    path: Path
    files: FileList
    stamps: Stamps
    failed: NDArray[np.bool_]
    unread: NDArray[np.bool_]
    binding: dict[str, Any]
    report: dict[str, Any]
    blocks: tuple[int, ...]

    def rows(self, index_of: NDArray[np.int64]) -> Iterator[Predictions]:
        """The rows with new indices: int64[N] by old index, ascending; -1 leaves a row out."""
        for number in range(len(self.blocks)):
            with reading_again(self.path):
                block = self._read(number)
            yield block.renumbered(index_of)

    def _read(self, number: int) -> Predictions:
        with open_own(self.path) as stream:
            stream.seek(self.blocks[number])
            return unpack_predictions(read_frame(stream, _context(number)))


def read_state(path: Path) -> State | None:
    """The state in a file, or None if there is no such file.

    Raises OSError or DamagedFrameError if it cannot be read, and OutputError if it is not ours.
    """
    if not os.path.lexists(path):
        return None
    with open_own(path) as stream:
        # Only the end of the file shows which frame is the last, so read (and check) them all.
        places, payload, number = [0], b"", 0
        size = os.fstat(stream.fileno()).st_size
        payloads: list[bytes] = [b"", b""]
        while stream.tell() < size:
            payload = read_frame(stream, _context(number))
            payloads = [payloads[-1], payload]
            places.append(stream.tell())
            number += 1
    arrays = unpack_arrays(payloads[0])
    with decoding():
        made_with = json.loads(payloads[1])
        return State(
            path=path,
            files=FileList.from_arrays(arrays["names"], arrays["offsets"]),
            stamps=Stamps(arrays["sizes"], arrays["times"]),
            failed=arrays["failed"],
            unread=arrays["unread"],
            binding=dict(made_with["binding"]),
            report=dict(made_with["report"]),
            blocks=tuple(places[: number - 2]),
        )


class StateWriter:
    """Writes the state of a report to a stream while the report is being made."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._frames = 0
        self._pending: list[Predictions] = []
        self._pending_values = 0
        self._failed: list[int] = []
        self._unread: list[int] = []

    def write(self, predictions: Predictions) -> None:
        """Append the rows of the images that come next. Raises OSError."""
        self._pending.append(predictions)
        self._failed += [failure.index for failure in predictions.failures]
        self._unread += [
            failure.index
            for failure in predictions.failures
            if failure.stage in ("read", "unsupported")
        ]
        self._pending_values += predictions.rows * predictions.probs.shape[1]
        if self._pending_values >= VALUES_IN_A_BLOCK:
            self._flush()

    def finish(
        self,
        files: FileList,
        stamps: Stamps,
        binding: Mapping[str, Any],
        report: Mapping[str, Any],
    ) -> None:
        """Write the images and what the report was made with. Raises OSError."""
        if self._pending:
            self._flush()
        names, offsets = files.as_arrays()
        failed, unread = np.zeros((2, len(files)), dtype=np.bool_)
        failed[self._failed] = True
        unread[self._unread] = True
        self._frame(
            pack_arrays(
                {
                    "names": names,
                    "offsets": offsets,
                    "sizes": stamps.sizes,
                    "times": stamps.times,
                    "failed": failed,
                    "unread": unread,
                }
            )
        )
        self._frame(json.dumps({"binding": binding, "report": report}).encode())

    def _flush(self) -> None:
        self._frame(pack_predictions(self._pending))
        self._pending = []
        self._pending_values = 0

    def _frame(self, payload: bytes) -> None:
        write_frame(self._stream, payload, _context(self._frames))
        self._frames += 1


def _context(number: int) -> bytes:
    return _CONTEXT + number.to_bytes(8, "little")
