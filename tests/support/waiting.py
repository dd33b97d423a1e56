"""Waiting for what another process or thread does: for the event, never for a time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

SECONDS = 60.0  # long enough for a loaded machine; only a failing test waits so long


def wait_until(condition: Callable[[], Answer], seconds: float = SECONDS) -> Answer:
    """The first true answer of ``condition``; a test that never gets one fails."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {condition}"
        time.sleep(0.01)
    return answer


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended, not even as a zombie. Linux only."""
    return process_state(pid) not in ("", "Z", "X")


def process_state(pid: int) -> str:
    """The letter by which proc(5) gives a process's state, or nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
