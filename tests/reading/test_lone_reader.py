"""A process that reads one file at a time; a file is blamed only for what the file does."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchdigit.batches import Batch
from batchdigit.errors import StoppedBySignal, WorkerError
from batchdigit.reading.lone_reader import LoneReader
from batchdigit.system.signals import signals_as_exceptions
from tests.support.samples import REPOSITORY


def read(indices: list[int]) -> Batch:
    if indices == [1]:
        time.sleep(60)
    if indices == [2]:
        os._exit(7)
    return Batch(np.array(indices), np.zeros((1, 1, 28, 28), np.uint8))


def lone_reader(function: Callable[[list[int]], Batch] = read) -> LoneReader:
    return LoneReader(function, seconds=2, start_method="fork")


def test_files_after_one_that_stalls_or_ends_the_process_are_read() -> None:
    reader = lone_reader()
    batches = [reader.read(index) for index in range(4)]
    assert [len(batch) for batch in batches] == [1, 0, 0, 1]
    assert batches[1].failures[0].text == "timeout: not read within 2 s"
    assert batches[2].failures[0].text == "decode: crashed the process that read it (exit code 7)"
    reader.end()
    assert multiprocessing.active_children() == []


def test_file_is_not_blamed_for_a_process_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batchdigit.reading.lone_reader._serve", lambda *_: os._exit(1))
    with pytest.raises(WorkerError, match="end as soon as they start"):
        lone_reader().read(0)
    assert multiprocessing.active_children() == []


# Once a file is being read, stop the processes for longer than a file may take.
STOP_AND_GO_ON = """
import os, signal, sys, time
from pathlib import Path
from tests.support.waiting import wait_until

wait_until(Path(sys.argv[1]).exists)
for number, pause in ((signal.SIGSTOP, 3), (signal.SIGCONT, 0)):
    for pid in map(int, sys.argv[2:]):
        os.kill(pid, number)
    time.sleep(pause)
"""


def test_time_while_the_program_sleeps_does_not_count(tmp_path: Path) -> None:
    """As between Ctrl-Z and fg: reading the file itself takes only a second."""
    begun = tmp_path / "begun"

    def read_slowly(indices: list[int]) -> Batch:
        begun.touch()
        time.sleep(1)
        return read(indices)

    slow = LoneReader(read_slowly, seconds=2, start_method="fork")
    slow.ready()
    worker = multiprocessing.active_children()[-1].pid or 0
    stop_both = [sys.executable, "-c", STOP_AND_GO_ON, begun, str(worker), str(os.getpid())]
    with subprocess.Popen(stop_both, cwd=REPOSITORY) as stopper:
        assert len(slow.read(0)) == 1
    assert stopper.returncode == 0
    slow.end()


def test_signal_leaves_no_stalled_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = lone_reader()
    reader.ready()
    join = multiprocessing.process.BaseProcess.join

    def join_and_be_stopped(self: multiprocessing.process.BaseProcess, *seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        join(self, *seconds)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "join", join_and_be_stopped)
    with pytest.raises(StoppedBySignal), signals_as_exceptions():
        reader.read(1)
    assert multiprocessing.active_children() == []
