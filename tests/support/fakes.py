"""Stand-ins: what behaves as the real thing does, or fails as it seldom does."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from batchdigit.errors import ImageError
from batchdigit.reading import dataset

KILLERS: dict[bytes, Callable[[], object]] = {
    b"segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"abort": lambda: os.kill(os.getpid(), signal.SIGABRT),
    b"out of memory": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"exit": lambda: os._exit(7),
    b"hang": lambda: time.sleep(1000),
    # No other thread of the process runs meanwhile.
    b"hang in C": lambda: ctypes.PyDLL(None).sleep(1000),
}
"""What a decoder may do to its process, by the contents of the file that makes it do so."""


def decode_by(
    monkeypatch: pytest.MonkeyPatch, deeds: Mapping[bytes, Callable[[], object]] = KILLERS
) -> None:
    """Whoever decodes a file with these contents, in a forked process too, does this first."""
    decode = dataset.decode_image

    def decode_or_die(data: bytes, **options: Any) -> Any:
        deeds.get(data, lambda: None)()
        return decode(data, **options)

    monkeypatch.setattr(dataset, "decode_image", decode_or_die)


def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may be read, as root, who may read every file, cannot arrange it."""

    def refuse(*_: object, **_options: object) -> bytes:
        raise ImageError("read", "Permission denied")

    monkeypatch.setattr(dataset, "read_file", refuse)


class Unending(BaseProcess):
    """A process that waits for a server that is gone: it does not end before it is released."""

    released = False

    def kill(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None, "would wait for ever"

    def is_alive(self) -> bool:
        return not self.released
