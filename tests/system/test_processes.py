import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import pytest

from batchdigit.errors import StoppedBySignal, WorkerError
from batchdigit.system import processes
from batchdigit.system.processes import (
    Process,
    answers_within,
    call_apart,
    check_left_behind,
    end_processes,
    how_it_ended,
    obey_parent,
    start_with_pipe,
    starting_processes,
)
from batchdigit.system.signals import STOP_SIGNALS, signals_as_exceptions
from tests.support.fakes import Unending
from tests.support.platforms import needs_linux
from tests.support.processes import ends_within, line_with


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    """No test leaves a process behind."""
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def left_behind(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The processes that are left behind: none yet."""
    none: list[Process] = []
    monkeypatch.setattr(processes, "_left_behind", none)
    return none


# A function that is called in a process of its own


def test_result_comes_from_another_process() -> None:
    pid, total = call_apart(pid_and_sum, 1, 2, seconds=60)
    assert pid != os.getpid()
    assert total == 3


def pid_and_sum(*numbers: int) -> tuple[int, int]:
    return os.getpid(), sum(numbers)


def test_result_may_be_larger_than_a_pipe_holds() -> None:
    assert call_apart(bytes, 10_000_000, seconds=60) == bytes(10_000_000)


def test_function_may_start_processes_itself() -> None:
    assert call_apart(call_once_more, seconds=60) == 3


def call_once_more() -> int:
    return call_apart(sum, (1, 2), seconds=60)


def test_what_it_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    call_apart(os.write, 1, b"out", seconds=60)
    call_apart(os.write, 2, b"err", seconds=60)
    assert capfd.readouterr() == ("", "")


def test_signals_that_stop_a_program_are_for_its_parent_alone() -> None:
    assert call_apart(signal.pthread_sigmask, signal.SIG_BLOCK, [], seconds=60) >= set(STOP_SIGNALS)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(STOP_SIGNALS)


@pytest.mark.parametrize(
    ("function", "argument", "how"),
    [(signal.raise_signal, signal.SIGKILL, "SIGKILL"), (os._exit, 3, "exit code 3")],
)
def test_process_that_ends_without_a_result(function: object, argument: int, how: str) -> None:
    with pytest.raises(ChildProcessError, match=f"^{how}$"):
        call_apart(function, argument, seconds=60)  # type: ignore[arg-type]


def test_exception_is_no_result() -> None:
    with pytest.raises(ChildProcessError, match="exit code 1"):
        call_apart(int, "no number", seconds=60)


def test_process_that_does_not_answer_in_time_is_ended() -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.1 seconds"):
        call_apart(time.sleep, 600, seconds=0.1)


@needs_linux("/proc")
def test_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    descriptors = os.listdir("/proc/self/fd")
    monkeypatch.setattr(BaseProcess, "start", refuse)
    with pytest.raises(BlockingIOError, match="temporarily unavailable"):
        call_apart(pid_and_sum, seconds=60)
    assert os.listdir("/proc/self/fd") == descriptors


def test_signal_leaves_no_process() -> None:
    with pytest.raises(StoppedBySignal), signals_as_exceptions():
        call_apart(interrupt_the_parent, os.getpid(), seconds=60)


def interrupt_the_parent(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    time.sleep(600)


@needs_linux("the kernel ends children with their parent")
def test_killed_program_leaves_no_process() -> None:
    code = (
        "import os, time\n"
        "from batchdigit.system.processes import call_apart\n"
        "line, theirs = os.pipe()\n"
        "def stay():\n"
        "    os.write(theirs, b'%d\\n' % os.getpid())\n"
        "    time.sleep(600)\n"
        "if not os.fork():\n"
        "    os.write(1, os.read(line, 100))\n"
        "    os._exit(0)\n"
        "call_apart(stay, seconds=600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as program:
        child = int(line_with("", program))
        program.kill()
        assert ends_within(child, 60)


# Processes with a pipe


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_process_and_program_talk_and_the_pipe_ends_with_the_process(start_method: str) -> None:
    with starting_processes():
        process, pipe = start_with_pipe(start_method, add, (2,), duplex=True)
    with contextlib.closing(pipe):
        pipe.send(3)
        assert answers_within(pipe, 60)
        assert pipe.recv() == 5
        assert answers_within(pipe, 60)  # with the news that it has ended
        with pytest.raises(EOFError):
            pipe.recv()
        process.join(60)
    assert how_it_ended(process.exitcode) == "exit code 0"


def test_process_outlives_the_thread_that_started_it() -> None:
    """To the kernel a thread is a parent, too, and workers end with their parent."""
    with ThreadPoolExecutor(1) as pool, starting_processes():
        process, pipe = pool.submit(start_and_settle).result()
    with contextlib.closing(pipe):
        pipe.send(3)
        assert answers_within(pipe, 60)
        assert pipe.recv() == 5
    process.join(60)
    assert process.exitcode == 0


def start_and_settle() -> tuple[Process, Connection]:
    process, pipe = start_with_pipe("spawn", settle_and_add, (2,), duplex=True)
    assert pipe.recv() == "settled"
    return process, pipe


def settle_and_add(pipe: Connection, number: int) -> None:
    obey_parent()
    pipe.send("settled")
    add(pipe, number)


def add(pipe: Connection, number: int) -> None:
    pipe.send(pipe.recv() + number)


def test_time_while_a_program_is_stopped_is_no_time_to_answer() -> None:
    """It is stopped as between Ctrl-Z and fg."""
    code = (
        "import multiprocessing, os, signal, time\n"
        "from batchdigit.system import processes\n"
        "looks = []\n"
        "class Pipe:\n"
        "    def poll(self, seconds):\n"
        "        looks.append(seconds)\n"
        "        if len(looks) == 1:\n"
        "            print('stopped', flush=True)\n"
        "            os.kill(os.getpid(), signal.SIGSTOP)\n"
        "        return False\n"
        "assert not processes.answers_within(Pipe(), 2.0)\n"
        "print(looks)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as program:
        line_with("stopped", program)
        _, status = os.waitpid(program.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        program.send_signal(signal.SIGCONT)
        assert line_with("[", program) == "[0.5, 0.5, 0.5, 0.5]\n"


@pytest.mark.parametrize(
    ("exit_code", "how"),
    [
        (-signal.SIGSEGV, "SIGSEGV"),
        (0, "exit code 0"),
        (7, "exit code 7"),
        (-123, "exit code -123"),
        (None, "exit code None"),
    ],
)
def test_how_a_process_ended(exit_code: int | None, how: str) -> None:
    assert how_it_ended(exit_code) == how


# Processes that do not end


def test_few_processes_may_be_left_behind(left_behind: list[Process]) -> None:
    stuck = [Unending() for _ in range(processes.MAX_LEFT_BEHIND)]
    end_processes(list(stuck[1:]))
    check_left_behind()
    end_processes([stuck[0]])
    with pytest.raises(WorkerError, match="do not answer"):
        check_left_behind()
    stuck[0].released = True
    check_left_behind()
    assert left_behind == stuck[1:]


def test_process_does_not_ask_about_those_that_its_parent_left_behind(
    left_behind: list[Process],
) -> None:
    """multiprocessing lets only the parent ask whether a process is alive."""
    with starting_processes():
        process, pipe = start_with_pipe("fork", Connection.recv, (), duplex=True)
    left_behind.append(process)
    try:
        call_apart(check_left_behind, seconds=60)
        assert left_behind == [process]
    finally:
        pipe.close()
        end_processes([process])


@needs_linux("a limit of a process's memory")
def test_thread_starts_where_work_has_used_up_the_memory() -> None:
    """Python would wait for ever for a thread that ran out of memory before it began."""
    assert call_apart(use_up_the_memory, seconds=30) == "a thread ran"


def use_up_the_memory() -> str:
    processes.limit_memory(64 << 20)
    kept = []
    with processes.reserve_kept():
        for size in (1 << 20, 1 << 10, 1 << 4):
            with contextlib.suppress(MemoryError):
                while True:
                    kept.append(bytearray(size))
    answers: list[str] = []
    thread = threading.Thread(target=answers.append, args=("a thread ran",))
    thread.start()
    thread.join()
    return answers[0]
