"""What only pipe workers do; the laws of all worker processes are in test_reader.py."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from batchdigit.reading.pipe_workers import PipeWorkers
from batchdigit.reading.workers import WorkerDied
from tests.support.batches import FakeFiles, plan
from tests.support.platforms import needs_linux
from tests.support.waiting import wait_until_idle

pytestmark = pytest.mark.usefixtures("opencv_without_threads")  # as a Reader does


def test_processes_take_turns_and_messages_of_any_size_arrive(tmp_path: Path) -> None:
    for pixels in (1, 784, 3_000_000):
        files = FakeFiles(tmp_path / f"{pixels}", pixels)
        pool = PipeWorkers(files, plan(7), 3, "fork", 10)
        try:
            for number in range(7):
                batch = next(pool)
                assert batch.indices.tolist() == [number]
                assert batch.images.shape == (1, pixels)
                assert (batch.images == number).all()
            with pytest.raises(StopIteration):
                next(pool)
        finally:
            pool.end()
        assert sorted(files.made()) == ["0", "0", "0", "1", "1", "2", "2"]
    assert multiprocessing.active_children() == []


@needs_linux("/proc")
def test_process_reads_ahead_but_not_for_ever(tmp_path: Path) -> None:
    """What waits is bounded, by what the plan says and by what a pipe holds."""
    files = FakeFiles(tmp_path / "log", pixels=100_000)
    pool = PipeWorkers(files, plan(1000), 1, "fork", 10)
    try:
        (process,) = multiprocessing.active_children()
        wait_until_idle(process.pid or 0)
        ahead = plan(1000).batches_ahead(1)
        assert ahead <= len(files.made()) <= ahead + 15
        assert next(pool).indices.tolist() == [0]
    finally:
        pool.end()


@needs_linux("/proc")
@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_process_that_stops_in_the_middle_of_a_message_is_not_waited_for_for_ever(
    tmp_path: Path, sent: signal.Signals
) -> None:
    files = FakeFiles(tmp_path / "log", pixels=3_000_000)
    pool = PipeWorkers(files, plan(3), 1, "fork", 1)
    (process,) = multiprocessing.active_children()
    wait_until_idle(process.pid or 0)  # with a part of the message in the pipe
    os.kill(process.pid or 0, sent)
    with pytest.raises(WorkerDied) as caught:
        next(pool)
    assert caught.value.index is None  # it was reading no file
    assert multiprocessing.active_children() == []


@needs_linux("/proc")
def test_death_is_seen_though_another_process_holds_the_pipe(tmp_path: Path) -> None:
    files = FakeFiles(tmp_path / "log", pixels=3_000_000)
    pool = PipeWorkers(files, plan(3), 1, "fork", 10)
    (process,) = multiprocessing.active_children()
    wait_until_idle(process.pid or 0)
    theirs = os.open(f"/proc/{process.pid}/fd/{_pipe_of(process.pid or 0)}", os.O_WRONLY)
    try:
        os.kill(process.pid or 0, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            next(pool)
    finally:
        os.close(theirs)


def _pipe_of(pid: int) -> str:
    """The other process's descriptor for its end of the pipe that this process reads from."""
    ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in _descriptors("self")}
    for descriptor in _descriptors(pid):
        target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        flags = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().split("flags:")[1].split()[0]
        if target.startswith("pipe:") and target in ours and int(flags, 8) & os.O_NONBLOCK:
            return descriptor
    raise AssertionError("no such pipe")


def _descriptors(pid: int | str) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        found.append(name)
    return found
