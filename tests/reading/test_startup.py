import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from batchdigit.errors import WorkerError
from batchdigit.reading.clocks import FileClocks
from batchdigit.system import processes
from batchdigit.system.processes import check_left_behind, end_processes

ORPHAN = """
import ctypes, multiprocessing, os, signal, sys, time
from batchdigit.reading.startup import settle_in

def child(settled, held):
    if settled:
        settle_in()
    ctypes.PyDLL(None).sleep(60) if held else time.sleep(60)

process = multiprocessing.get_context("fork").Process(
    target=child, args=(sys.argv[1] == "settled", sys.argv[2] == "held")
)
process.start()
print(process.pid, flush=True)
time.sleep(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks through /proc")
@pytest.mark.parametrize("interpreter", ["held", "free"])
@pytest.mark.parametrize(("life", "ends"), [("settled", True), ("unsettled", False)])
def test_process_ends_with_its_parent_whatever_it_does(
    tmp_path: Path, life: str, ends: bool, interpreter: str
) -> None:
    """One that did not settle in lives on, which shows that this is no accident."""
    with open(tmp_path / "pid", "wb") as output:
        subprocess.run(
            [sys.executable, "-c", ORPHAN, life, interpreter], stdout=output, check=False
        )
    pid = int((tmp_path / "pid").read_text())
    try:
        assert ends_within(pid, 10 if ends else 2) == ends
    finally:
        if not ends:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_process_tells_at_which_file_it_is_and_since_when(start_method: str) -> None:
    clocks = FileClocks(3, start_method)
    assert [clocks.file(place) for place in range(3)] == [None, None, None]
    before = time.monotonic()
    process = multiprocessing.get_context(start_method).Process(target=begin, args=(clocks,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [clocks.file(place) for place in range(3)] == [None, 7, None]
    time.sleep(0.01)
    assert clocks.is_stuck(1, 0.001, awake_since=before)
    assert not clocks.is_stuck(1, 60, awake_since=before)
    assert not clocks.is_stuck(1, 0.001, awake_since=time.monotonic())  # slept until now
    clocks.stop(1)
    assert clocks.file(1) is None
    assert not clocks.is_stuck(1, 0.001, awake_since=before)


def test_process_that_never_begins_is_stuck_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchdigit.reading.clocks.SECONDS_TO_START", 0.0)
    clocks = FileClocks(1, "fork")
    time.sleep(0.01)
    assert clocks.is_stuck(0, 0.001, awake_since=0.0)


def begin(clocks: FileClocks) -> None:
    clocks.start(1, 7)


class Unending(BaseProcess):
    """As a process is that waits for a server that is gone, until it is released."""

    released = False

    def kill(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None, "would wait for ever"

    def is_alive(self) -> bool:
        return not self.released


def test_few_processes_may_be_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_left_behind", [])
    stuck = [Unending() for _ in range(processes.MAX_LEFT_BEHIND)]
    end_processes(list(stuck[1:]))
    check_left_behind()
    end_processes([stuck[0]])
    with pytest.raises(WorkerError, match="do not answer"):
        check_left_behind()
    stuck[0].released = True
    check_left_behind()
