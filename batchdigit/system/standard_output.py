"""Standard output, which results have for themselves whatever else prints there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

_kept: list[TextIO] = []


def standard_output() -> TextIO | None:
    """Where results go; None if the caller closed it."""
    return _kept[-1] if _kept else sys.stdout


@contextlib.contextmanager
def output_kept_apart() -> Iterator[None]:
    """Send what is printed in the block to standard error, but for :func:`standard_output`.

    So is what C code prints, and what processes print that are started in the block.
    """
    printed = sys.stdout
    if printed is None or sys.stderr is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        results = printed
        if _is_descriptor(printed, 1):
            printed.flush()
            kept = os.dup(1)  # which only forks of this process have, too
            results = open(kept, "w", encoding=printed.encoding, errors=printed.errors)  # noqa: SIM115
            stack.callback(_close, results)
            stack.callback(os.dup2, kept, 1)
            os.dup2(2, 1)
            stack.callback(_flush, printed)  # of which some code may have kept hold
        _kept.append(results)
        stack.callback(_kept.remove, results)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):  # one in memory
        return False


def _flush(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


def _close(stream: TextIO) -> None:
    with contextlib.suppress(OSError):  # what could not be written was said when it was flushed
        stream.close()
