"""Small, real stand-ins: a source, a source to read through, an engine."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions, join_predictions
from batchdigit.engines.local import LocalEngine
from batchdigit.errors import ImageError
from batchdigit.sources.base import Source
from batchdigit.sources.filelist import FileList
from batchdigit.sources.stamps import Stamps


class DictSource:
    """Images in memory: bytes by their name."""

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
    """Computes the last batch first, and gives the predictions in order all the same."""

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
