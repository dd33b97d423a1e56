"""A process that begins afresh needs nothing of the program that starts it."""

import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from batchdigit.system import new_process
from batchdigit.system.new_process import NewProcess, SharedMemory
from batchdigit.system.processes import start_with_pipe, starting_processes
from batchdigit.system.working_folder import OURS


def answer(function: object, *arguments: object) -> object:
    """What a function returns in a new process."""
    with starting_processes():
        process, pipe = start_with_pipe("spawn", send, (function, *arguments))
    with pipe:
        result = pipe.recv()
    process.join(60)
    assert process.exitcode == 0
    assert not process.is_alive()
    return result


def send(pipe: Connection, function: object, *arguments: object) -> None:
    pipe.send(function(*arguments))  # type: ignore[operator]


def test_it_is_another_process_in_a_folder_of_ours() -> None:
    assert answer(os.getpid) != os.getpid()
    assert answer(os.getcwd) == str(OURS)
    assert answer(is_safe)


def is_safe() -> bool:
    return bool(sys.flags.isolated or sys.flags.safe_path)  # the latter since Python 3.11


def test_memory_is_shared() -> None:
    memory = SharedMemory(100)
    assert memory.map[:] == bytes(100)
    answer(write, memory)
    assert memory.map[:6] == b"\0hello"


def write(memory: SharedMemory) -> None:
    memory.map[1:6] = b"hello"


def test_work_may_be_large() -> None:
    assert answer(len, bytes(100_000_000)) == 100_000_000


def test_modules_are_looked_for_where_the_program_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """But for the working folder, which an empty item stands for."""
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path, "relative"])
    assert answer(path) == [str(tmp_path), *sys.path[2:-1], os.path.abspath("relative")]
    monkeypatch.setattr(sys, "path", [""])
    assert new_process._path() == [str(OURS.parent)]


def path() -> list[str]:
    return sys.path


def test_how_it_ended_is_known() -> None:
    for function, argument, code in ((os._exit, 3, 3), (signal.raise_signal, 9, -9), (int, "x", 1)):
        process = NewProcess(function, (argument,))  # type: ignore[arg-type]
        process.join(60)
        assert process.exitcode == code


def test_it_can_be_waited_for_and_killed() -> None:
    process = NewProcess(signal.pause, ())
    process.join(0.01)
    assert process.is_alive()
    assert process.exitcode is None
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_what_it_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    answer(os.write, 1, b"out")
    answer(os.write, 2, b"err")
    NewProcess(int, ("no number",)).join(60)
    assert capfd.readouterr() == ("", "")


def test_what_is_of_the_main_module_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new process would not find it: the main module is not run again."""
    monkeypatch.setattr(write, "__module__", "__main__")
    with pytest.raises(pickle.PicklingError, match="main module"):
        NewProcess(write, ())


def test_what_cannot_be_sent_is_said() -> None:
    with pytest.raises(pickle.PicklingError, match="lock"):
        NewProcess(write, (threading.Lock(),))


def test_program_that_is_frozen_or_embedded_can_start_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert new_process.is_possible()
    with monkeypatch.context() as patch:
        patch.setattr("multiprocessing.spawn.get_executable", lambda: None)
        assert not new_process.is_possible()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not new_process.is_possible()
