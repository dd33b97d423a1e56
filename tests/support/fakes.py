"""Stand-ins that behave as the real thing does, or fail as it seldom does."""

import contextlib
import ctypes
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batchdigit.batches import Predictions, join_predictions
from batchdigit.engines.local import LocalEngine
from batchdigit.errors import ImageError
from batchdigit.reading import dataset
from batchdigit.sources import folder as folders
from batchdigit.sources.base import Source
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps
from batchdigit.system.regular import open_regular

KILLERS: dict[bytes, Callable[[], object]] = {
    b"segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"abort": lambda: os.kill(os.getpid(), signal.SIGABRT),
    b"out of memory": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"exit": lambda: os._exit(7),
    b"hang": lambda: time.sleep(1000),
    # No other thread of the process runs meanwhile.
    b"hang in C": lambda: ctypes.PyDLL(None).sleep(1000),
}
"""What a decoder may do to its process, by the contents of the file that makes it do that."""


def decode_by(
    monkeypatch: pytest.MonkeyPatch, deeds: Mapping[bytes, Callable[[], object]] = KILLERS
) -> None:
    """Make whoever decodes a file with these contents do this first, in forked processes too."""
    decode = dataset.decode_image

    def decode_or_die(data: bytes, **options: Any) -> Any:
        deeds.get(data, lambda: None)()
        return decode(data, **options)

    monkeypatch.setattr(dataset, "decode_image", decode_or_die)


def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to read any file; root may read every file, so permissions cannot arrange this."""

    def refuse(*_: object, **_options: object) -> bytes:
        raise ImageError("read", "Permission denied")

    monkeypatch.setattr(folders, "read_file", refuse)


def opened_then_fifo(path: Path) -> tuple[int, os.stat_result]:
    """Open a file, and put a FIFO in its place: who opens it once more waits for ever."""
    opened = open_regular(path)
    path.unlink()
    os.mkfifo(path)
    return opened


class Unending(BaseProcess):
    """A process that waits for a server that is gone: it does not end until it is released."""

    released = False

    def kill(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None, "would wait for ever"

    def is_alive(self) -> bool:
        return not self.released


class DictSource:
    """Images in memory: their bytes, by name."""

    random_access = True

    def __init__(self, contents: Mapping[bytes, bytes]) -> None:
        self._contents = dict(contents)
        self.images = FileList(sorted(self._contents))
        self.ignored = FileList()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def binding(self) -> dict[str, Any]:
        return {"source": "memory"}

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        for index in indices:
            data = self._contents[self.images[index]]
            yield data if len(data) <= max_bytes else ImageError("too-large", f"{len(data)} bytes")

    def stamps(self, indices: Sequence[int]) -> Stamps:
        contents = [self._contents[self.images[index]] for index in indices]
        digests = [hashlib.sha256(data).digest()[:7] for data in contents]
        return Stamps(
            np.array([len(data) for data in contents], np.int64),
            np.array([int.from_bytes(digest, "big") for digest in digests], np.int64),
        )


class DeadlySource(DictSource):
    """The same, but an image whose bytes are those of a killer ends or stalls who reads it."""

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        for data in super().contents(indices, max_bytes=max_bytes):
            if isinstance(data, bytes):
                KILLERS.get(data, lambda: None)()
            yield data


class TapeSource(DictSource):
    """The same, but it can only be read through; ``rewinds`` counts how often it started over."""

    random_access = False
    rewinds = 0
    _position = 0

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        for index in indices:
            if index < self._position:
                self.rewinds += 1
            self._position = index + 1
            yield from super().contents([index], max_bytes=max_bytes)


class ReverseEngine(LocalEngine):
    """Computes the last batch first, but still gives the predictions in order."""

    @contextlib.contextmanager
    def predictions(
        self, source: Source, places: NDArray[np.int64]
    ) -> Iterator[Iterator[Predictions]]:
        size = self.batch_size(source)
        done = []
        for start in reversed(range(0, len(places), size)):
            with super().predictions(source, places[start : start + size]) as computed:
                done.append(join_predictions(list(computed)))
        yield iter(reversed(done))
