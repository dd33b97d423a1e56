"""PyTorch's DataLoader, with its worker processes under watch."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
import warnings
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from batchdigit.batches import Batch
from batchdigit.errors import WorkerError
from batchdigit.reading.clocks import FileClocks
from batchdigit.reading.startup import settle_in
from batchdigit.reading.workers import Files, Plan, WorkerDied
from batchdigit.system.processes import (
    SECONDS_BETWEEN_LOOKS,
    SECONDS_TO_DIE,
    end_processes,
    starting_processes,
)
from batchdigit.system.words import counted

if TYPE_CHECKING:
    from torch.utils.data._utils.worker import WorkerInfo


class TorchWorkers:
    """Iterates once over the batches of ``plan``, in order, read by ``count`` processes.

    A process that spends longer than ``seconds`` on an image is stuck.

    torch notices a dead worker in a signal handler, which may run anywhere in the main thread, or
    while it waits for a batch. If the worker died in the middle of a message, torch never notices:
    it waits for the rest. So a thread waits here for the first death, ends the other workers and
    closes the pipe, and the main thread learns of the death when it asks for a batch. A worker that
    is stuck is killed: at an image, or between images while the main thread waits for its batch (it
    was stopped, or waits for a thread that never came up). If even that does not end it, the pipe
    stays open; the main thread finds out because its waiting times out every half second.
    """

    def __init__(
        self, files: Files, plan: Plan, count: int, start_method: str, seconds: float
    ) -> None:
        self._count = count
        self._seconds = seconds
        self._clocks = FileClocks(count, start_method)
        self._awake_since = 0.0
        self._received = 0
        self._asked: float | None = None  # since when the main thread has waited for a batch
        self._dead: list[int] = []
        self._ending = threading.Event()
        self._processes: list[BaseProcess] = []
        self._handler: Any = None
        self._watch: threading.Thread | None = None
        self._iterator: Any = None
        self._threads_before = set(threading.enumerate())
        children_before = multiprocessing.active_children()
        with starting_processes():
            # The caller chose the number of workers, whatever torch thinks of it.
            warnings.filterwarnings("ignore", ".*worker processes", UserWarning)
            loader = DataLoader(
                cast("Dataset[Batch]", files),
                batch_sampler=plan,
                num_workers=count,
                collate_fn=_as_it_is,
                multiprocessing_context=start_method,
                worker_init_fn=partial(_settle_in, self._clocks, files.memory(plan.batch_size)),
                prefetch_factor=plan.batches_ahead(count),
                timeout=SECONDS_BETWEEN_LOOKS,
                in_order=True,
            )
            # torch sets its handler once in a process. That happens here, so that it can be
            # replaced before there are workers. Blocking the signal would not help, because other
            # threads get it, too.
            signal_handling._set_SIGCHLD_handler()
            self._handler = _replace_sigchld_handler(_do_nothing)
            # Like iter(), except that an iterator that fails half-way can be tidied up.
            self._iterator = _MultiProcessingDataLoaderIter.__new__(_MultiProcessingDataLoaderIter)
            try:
                self._iterator.__init__(loader)
                # A worker may die holding the lock of the event by which torch tells workers to
                # end. The event itself is kept, because the workers that Windows starts, which
                # begin afresh, ask this process for it.
                self._torchs_event = self._iterator._workers_done_event
                self._iterator._workers_done_event = threading.Event()
                self._processes = _children_since(children_before)
                self._watch = threading.Thread(target=self._watch_over, daemon=True)
                self._watch.start()
            except (OSError, RuntimeError) as error:  # there can be no more processes, or threads
                self._give_up(_children_since(children_before))
                raise WorkerError(
                    f"cannot start {counted(count, 'worker process', 'worker processes')}: {error}",
                    "use a smaller --workers; 0 reads in the main process",
                ) from error

    def _give_up(self, processes: list[BaseProcess]) -> None:
        """End what has started, unnoticed by torch's SIGCHLD handler and its destructor."""
        end_processes(processes)
        if getattr(self._iterator, "_worker_pids_set", False):
            signal_handling._remove_worker_pids(id(self._iterator))  # type: ignore[attr-defined]
        self._iterator._shutdown = True
        for queue in getattr(self._iterator, "_index_queues", []):
            queue.cancel_join_thread()
            queue.close()  # here, not wherever the garbage collector happens to run
        self._join_feeders()
        _replace_sigchld_handler(self._handler)

    def __next__(self) -> Batch:
        """The next batch. Raises WorkerDied, after which all workers have ended."""
        self._asked = time.monotonic()
        while not self._dead:
            try:
                batch: Batch = next(self._iterator)
            except (RuntimeError, EOFError, OSError, MemoryError) as error:
                if not (self._dead or _is_timeout(error)):
                    break
            else:
                self._asked = None
                self._received += 1
                return batch
        files = [self._clocks.file(place) for place in self._dead]
        self.end()
        raise WorkerDied(next((file for file in files if file is not None), None))

    def _watch_over(self) -> None:
        sentinels = [process.sentinel for process in self._processes]
        dead: list[int] = []
        while not (dead or self._ending.is_set()):
            looked = time.monotonic()
            ended = connection.wait(sentinels, SECONDS_BETWEEN_LOOKS)
            if time.monotonic() - looked > 2 * SECONDS_BETWEEN_LOOKS:
                self._awake_since = time.monotonic()  # all were stopped, by Ctrl-Z, for example
            dead = [
                place
                for place, sentinel in enumerate(sentinels)
                if sentinel in ended
                or self._clocks.is_stuck(place, self._seconds, self._awake_since)
                or self._is_silent(place)
            ]
        for place in dead:
            self._processes[place].kill()
        self._dead = dead
        if all(connection.wait([sentinels[place]], SECONDS_TO_DIE) for place in dead):
            for process in self._processes:
                process.kill()
            # Reading ends once no process holds the other end of the pipe; this one still does.
            self._iterator._worker_result_queue._writer.close()

    def _is_silent(self, place: int) -> bool:
        """Whether the next batch comes from a worker that is at no image, and does not come."""
        asked = self._asked
        if asked is None or place != self._received % self._count:
            return False
        return self._clocks.is_silent(place, self._seconds, max(asked, self._awake_since))

    def end(self) -> None:
        """End the workers within moments, whatever they are doing.

        torch would ask them to end, and wait five seconds for each that is busy with a large image.
        """
        if self._watch is None:
            return
        self._ending.set()
        end_processes(self._processes)
        self._watch.join()
        self._iterator._workers = []  # torch would wait for those that do not end
        self._iterator._shutdown_workers()
        self._join_feeders()
        self._watch = None
        _replace_sigchld_handler(self._handler)

    def _join_feeders(self) -> None:
        """Wait for the threads of the queues: while they run, nothing can be forked safely."""
        for thread in set(threading.enumerate()) - self._threads_before:
            if thread.name == "QueueFeederThread" and thread.ident is not None:
                thread.join(SECONDS_TO_DIE)


def _settle_in(clocks: FileClocks, memory: int, place: int) -> None:
    """Prepare a worker process."""
    settle_in(memory)
    files = cast("Files", cast("WorkerInfo", get_worker_info()).dataset)
    files.report_to(clocks, place)


def _is_timeout(error: BaseException) -> bool:
    """Whether torch says that no batch came in time; its exception has no type of its own."""
    return isinstance(error, RuntimeError) and "timed out" in str(error)


def _as_it_is(batch: Any) -> Any:
    return batch


def _children_since(before: list[BaseProcess]) -> list[BaseProcess]:
    return [child for child in multiprocessing.active_children() if child not in before]


def _do_nothing(_signum: int, _frame: FrameType | None) -> None:
    pass


def _replace_sigchld_handler(handler: Any) -> Any:
    """Set SIGCHLD's handler, where that is possible, and return the one before."""
    if not hasattr(signal, "SIGCHLD") or handler is None:
        return None
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGCHLD, handler)
