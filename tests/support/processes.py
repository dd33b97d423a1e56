"""Waiting for other processes: for their end, for what they print."""

import os
import select
import subprocess
import threading


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
