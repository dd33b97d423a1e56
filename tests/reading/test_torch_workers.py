"""What only the DataLoader's workers do; the laws of all worker processes are in test_reader.py."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from batchdigit.batches import Batch
from batchdigit.errors import WorkerError
from batchdigit.reading import torch_workers
from batchdigit.reading.torch_workers import TorchWorkers
from batchdigit.reading.workers import OpenWorkers, WorkerDied
from batchdigit.sources.folder import FolderSource
from tests.reading.conftest import ReadAll
from tests.support.batches import FakeFiles, plan
from tests.support.platforms import needs_linux
from tests.support.waiting import wait_until, wait_until_idle

pytestmark = pytest.mark.usefixtures("opencv_without_threads")  # as a Reader does


@pytest.fixture
def open_workers() -> OpenWorkers:
    return TorchWorkers


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    threads = threading.active_count()
    yield
    assert multiprocessing.active_children() == []
    assert threading.active_count() == threads
    assert signal.getsignal(signal.SIGCHLD) is not torch_workers._do_nothing


@pytest.mark.parametrize("count", [1, 3])
def test_batches_arrive_in_order_from_processes_that_take_turns(tmp_path: Path, count: int) -> None:
    files = FakeFiles(tmp_path / "log")
    workers = TorchWorkers(files, plan(7, 2), count, "fork", 10)
    try:
        batches = [next(workers).indices.tolist() for _ in range(7)]
        with pytest.raises(StopIteration):
            next(workers)
    finally:
        workers.end()
    assert batches == [[2 * number, 2 * number + 1] for number in range(7)]
    assert sorted(files.made()) == sorted(str(number % count) for number in range(7))


class Waiting(FakeFiles):
    """Makes no batch before there is a file ``go`` beside the log."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        wait_until((self.log.parent / "go").exists)
        return super().__getitems__(indices)


@pytest.mark.usefixtures("impatient")
def test_batch_that_takes_longer_than_torch_waits_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_timeout, timeouts = torch_workers._is_timeout, []

    def counted(error: BaseException) -> bool:
        timeouts.append(is_timeout(error))
        if len(timeouts) == 3:
            (tmp_path / "go").touch()
        return timeouts[-1]

    monkeypatch.setattr(torch_workers, "_is_timeout", counted)
    workers = TorchWorkers(Waiting(tmp_path / "log"), plan(1), 1, "fork", 60)
    try:
        assert next(workers).indices.tolist() == [0]
    finally:
        workers.end()
    assert len(timeouts) >= 3
    assert all(timeouts)


@pytest.mark.usefixtures("impatient")
def test_worker_that_stops_between_images_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    class Stopping(FakeFiles):
        def __getitems__(self, indices: Sequence[int]) -> Batch:
            batch = super().__getitems__(indices)
            if indices == [1]:
                os.kill(os.getpid(), signal.SIGSTOP)
            return batch

    workers = TorchWorkers(Stopping(tmp_path / "log"), plan(4), 2, "fork", 1)
    try:
        assert next(workers).indices.tolist() == [0]
        with pytest.raises(WorkerDied) as caught:
            next(workers)
        assert caught.value.index is None  # it was reading no file
    finally:
        workers.end()


@needs_linux("/proc")
@pytest.mark.usefixtures("impatient")
def test_worker_that_stops_in_the_middle_of_a_message_is_not_waited_for_for_ever(
    tmp_path: Path,
) -> None:
    files = FakeFiles(tmp_path / "log", pixels=3_000_000)
    workers = TorchWorkers(files, plan(3), 1, "fork", 1)
    try:
        (process,) = multiprocessing.active_children()
        wait_until_idle(process.pid or 0)  # with a part of the message in the pipe
        os.kill(process.pid or 0, signal.SIGSTOP)
        with pytest.raises(WorkerDied):
            next(workers)
    finally:
        workers.end()


def test_error_of_the_images_is_not_taken_for_the_end(tmp_path: Path) -> None:
    """No image raises; if one did all the same, rows must not go missing."""

    class Broken(FakeFiles):
        def __getitems__(self, indices: Sequence[int]) -> Batch:
            raise ZeroDivisionError(indices)

    workers = TorchWorkers(Broken(tmp_path / "log"), plan(2), 1, "fork", 10)
    try:
        with pytest.raises(ZeroDivisionError):
            next(workers)
    finally:
        workers.end()


def test_torchs_handler_is_away_while_there_are_workers(tmp_path: Path) -> None:
    """It would raise anywhere in the main thread when a worker dies."""
    workers = TorchWorkers(FakeFiles(tmp_path / "log"), plan(2), 1, "fork", 10)
    try:
        assert signal.getsignal(signal.SIGCHLD) is torch_workers._do_nothing
    finally:
        workers.end()
        workers.end()  # once more does no harm


def test_workers_serve_a_thread_that_is_not_the_main_one(tmp_path: Path) -> None:
    """Only the main thread may set signal handlers."""
    made: list[list[int]] = []

    def read() -> None:
        workers = TorchWorkers(FakeFiles(tmp_path / "log"), plan(2), 1, "fork", 10)
        try:
            made.extend(next(workers).indices.tolist() for _ in range(2))
        finally:
            workers.end()

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert made == [[0], [1]]


@pytest.mark.parametrize("kind", ["_watch_over", "QueueFeederThread"])
def test_threads_that_cannot_start_are_an_error_and_leave_no_worker(
    files: FolderSource,
    read_all: ReadAll,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    """As in a container with a limit on processes."""
    start = threading.Thread.start

    def start_or_fail(self: threading.Thread) -> None:
        if kind in self.name:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    with pytest.raises(WorkerError, match="new thread"):
        read_all(files, batch_size=1, workers=2, start_method="fork")
    gc.collect()
    assert capfd.readouterr().err == ""
