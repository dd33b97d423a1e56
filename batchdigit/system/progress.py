"""How far the work has got: a bar on a terminal, elsewhere a line from time to time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TextIO

SECONDS_BETWEEN_LINES = 30.0

OnProgress = Callable[[int, int, int], None]
"""Called with how many images are done, how many of these failed, and how many there are in all."""


def no_progress(_done: int, _failed: int, _found: int) -> None:
    """Show nothing."""


class Progress:
    """What shows how far the work has got; this one shows nothing."""

    def __call__(self, done: int, failed: int, found: int) -> None:
        """Show how many are done, how many of these failed, and how many there are in all."""

    def say(self, line: str) -> None:
        """Show a line of text, once."""

    def close(self) -> None:
        """Remove what should not stay on the screen."""


def show_progress(
    stream: TextIO | None, *, quiet: bool = False, unit: str = "images"
) -> contextlib.closing[Progress]:
    """A context manager that gives the Progress that suits ``stream``; None is a closed stream."""
    if quiet or stream is None:
        return contextlib.closing(Progress())
    return contextlib.closing(_Bar(stream, unit) if stream.isatty() else _Lines(stream, unit))


class _Bar(Progress):
    def __init__(self, stream: TextIO, unit: str) -> None:
        # Imported here because only a run on a terminal needs it.
        from tqdm import tqdm

        # 0 keeps tqdm from starting a thread, beside which processes could not be forked safely.
        tqdm.monitor_interval = 0
        self._stream = stream
        self._bar = tqdm(file=stream, unit=f" {unit}", dynamic_ncols=True, smoothing=0.1)

    def __call__(self, done: int, failed: int, found: int) -> None:
        self._bar.total = found
        if failed:
            self._bar.set_postfix(failed=failed, refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        self._bar.write(line, file=self._stream)

    def close(self) -> None:
        self._bar.close()


class _Lines(Progress):
    def __init__(self, stream: TextIO, unit: str) -> None:
        self._stream = stream
        self._unit = unit
        # When the last line was shown, and how much was done by then. What is already done at the
        # first call may have been done by an earlier run, so the rate does not count it.
        self._last = 0.0
        self._done = 0

    def __call__(self, done: int, failed: int, found: int) -> None:
        now = time.monotonic()
        if not self._done:
            self._last, self._done = now, done
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        rate = (done - self._done) / (now - self._last)
        self._last, self._done = now, done
        failures = f" ({failed} failed)" if failed else ""
        self.say(
            f"{done} of {found} {self._unit}{failures}, {rate:.0f} {self._unit}/s, "
            f"about {(found - done) / rate:.0f} s left"
        )

    def say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a message that cannot be shown is no failure
            self._stream.write(line + "\n")
            self._stream.flush()
