"""Waiting for what another process or thread does: for the event, never for a time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

SECONDS = 60.0  # enough for a loaded machine; only a test that fails waits this long
SECONDS_BETWEEN_LOOKS = 0.01
LOOKS_AT_AN_IDLE_PROCESS = 20


def wait_until(condition: Callable[[], Answer], seconds: float = SECONDS) -> Answer:
    """The first true answer of ``condition``; a test that never gets one fails."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {condition}"
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return answer


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended, not even as a zombie (Linux)."""
    return _state(pid) not in ("", "Z", "X")


def wait_until_idle(*pids: int) -> None:
    """Wait until these processes sleep and compute nothing any more (Linux)."""
    for pid in pids:
        looks: list[tuple[str, str]] = []

        def is_idle(pid: int = pid, looks: list[tuple[str, str]] = looks) -> bool:
            looks.append((_state(pid), _ticks(pid)))
            latest = set(looks[-LOOKS_AT_AN_IDLE_PROCESS:])
            return len(looks) > LOOKS_AT_AN_IDLE_PROCESS and latest == {("S", looks[-1][1])}

        wait_until(is_idle)


def parent(pid: int) -> int:
    """The process that has started a process (Linux); 0 if there is no such process."""
    return int([*_stat(pid), "0"][1])


def _state(pid: int) -> str:
    """The letter that stands for a process's state in proc(5); empty if there is no process."""
    return _stat(pid)[0]


def _ticks(pid: int) -> str:
    """The processor time that a process has used."""
    return " ".join(_stat(pid)[11:13])


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the name, which may contain anything."""
    assert Path("/proc/self/stat").exists(), "only Linux tells what state a process is in"
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return [""]
