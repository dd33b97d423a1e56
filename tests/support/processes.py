"""Waiting for other processes: for their end, for what they print."""

import os
import select
import subprocess
import threading
from pathlib import Path

from tests.support.waiting import is_running, parent


def ends_within(pid: int, seconds: float) -> bool:
    """Whether a process, which need not be a child, ends within that time. Linux only."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def children() -> list[int]:
    """The processes that this one has started, and that have not ended. Linux only."""
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if is_running(int(folder.name)) and parent(int(folder.name)) == os.getpid()
    ]


def line_with(text: str, process: subprocess.Popen[str], seconds: float = 60) -> str:
    """The first line with this text that a process prints; it is killed if that takes too long."""
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if text in line:
                return line
    finally:
        timer.cancel()
    raise AssertionError(f"printed no line with {text!r} within {seconds} seconds")
