"""Predictions as bytes in a file, and the proof that they are whole.

A frame is the length of its payload (8 bytes, little-endian), the SHA-256 of a context and the
payload (32 bytes), and the payload. The context says what the frame belongs to, and its place
there, so that a whole frame in the wrong place counts as damaged too. Payloads are JSON or numpy's
``.npz`` archives, read with ``allow_pickle=False``: nothing here is a pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions, join_predictions
from batchdigit.errors import OutputError

_LENGTH = 8
_DIGEST = 32

Arrays = Mapping[str, NDArray[Any]]


class DamagedFrameError(Exception):
    """A frame is torn or changed, or is not the one that was asked for."""


def write_frame(stream: BinaryIO, payload: bytes, context: bytes) -> None:
    """Append a frame to ``stream``."""
    stream.write(len(payload).to_bytes(_LENGTH, "little") + _digest(payload, context))
    stream.write(payload)


def read_frame(stream: BinaryIO, context: bytes) -> bytes:
    """The payload of the frame at the position of ``stream``. Raises DamagedFrameError."""
    length = int.from_bytes(stream.read(_LENGTH), "little")
    digest = stream.read(_DIGEST)
    # A damaged length may ask for any size, so allocate no more than is there.
    here = stream.tell()
    if length > stream.seek(0, io.SEEK_END) - here:
        raise DamagedFrameError
    stream.seek(here)
    payload = stream.read(length)
    if digest != _digest(payload, context):
        raise DamagedFrameError
    return payload


def _digest(payload: bytes, context: bytes) -> bytes:
    digest = hashlib.sha256(hashlib.sha256(context).digest())
    digest.update(payload)
    return digest.digest()


def pack_arrays(arrays: Arrays) -> bytes:
    """The arrays as one ``.npz`` archive."""
    stream = io.BytesIO()
    np.savez(stream, **dict[str, Any](arrays))
    return stream.getvalue()


def unpack_arrays(payload: bytes) -> dict[str, NDArray[Any]]:
    """Undo :func:`pack_arrays`. Raises DamagedFrameError."""
    with decoding(), np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Raise DamagedFrameError for any error in decoding a payload.

    Its digest says that it is whole, so something else wrote it.
    """
    try:
        yield
    except (DamagedFrameError, MemoryError):
        raise
    except Exception as error:
        raise DamagedFrameError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def reading_again(path: Path) -> Iterator[None]:
    """Raise OutputError if a frame in ``path`` that was whole can no longer be read."""
    try:
        yield
    except (DamagedFrameError, OSError) as error:
        raise OutputError(
            f"{path} was changed or removed during this run", "run the same command again"
        ) from error


def pack_predictions(parts: Sequence[Predictions]) -> bytes:
    """Consecutive predictions, at least one, as one payload."""
    return pack_arrays(join_predictions(parts).as_arrays())


def unpack_predictions(payload: bytes) -> Predictions:
    """Undo :func:`pack_predictions`; the parts come back joined. Raises DamagedFrameError."""
    arrays = unpack_arrays(payload)
    with decoding():
        return Predictions.from_arrays(arrays)
