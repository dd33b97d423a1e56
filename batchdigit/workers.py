"""A DataLoader and the watch over its worker processes."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from batchdigit.errors import WorkerError
from batchdigit.records import Batch
from batchdigit.signals import signals_blocked

BATCHES_AHEAD = 2  # of each worker
SECONDS_TO_DIE = 5.0


class WorkerDied(Exception):  # noqa: N818  (no error yet: the reader goes on)
    """A worker died; ``suspects`` are the batches that it may have died of."""

    def __init__(self, suspects: set[int]) -> None:
        super().__init__(suspects)
        self.suspects = suspects


class Plan(Sampler[list[int]]):
    """The batches to read, by their numbers; iterating gives each one's places in the dataset."""

    def __init__(self, numbers: list[int], places_of: Any) -> None:
        self.numbers = numbers
        self._places_of = places_of

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self._places_of, self.numbers)


class Workers:
    """Iterates once over the batches of ``plan``, in order, read by ``count`` processes or here.

    torch would notice a dead worker in a signal handler, hence anywhere in the main thread; or
    while it waits for a batch; or never, where the worker died in the middle of a message, whose
    rest it would wait for. Here a thread waits for the first death, ends the others and hangs up,
    so that the main thread learns of it when it asks for a batch.
    """

    def __init__(
        self,
        dataset: Dataset[Batch],
        plan: Plan,
        count: int,
        start_method: str | None,
        settle_in: Any,
    ) -> None:
        self._plan = plan
        self._count = count
        self._received = 0
        self._dead: list[int] = []
        self._processes: list[BaseProcess] = []
        self._handler: Any = None
        self._watch: threading.Thread | None = None
        self._iterator: Any = None
        self._threads_before = set(threading.enumerate())
        children_before = multiprocessing.active_children()
        # torch's handler shall not see a death before ours is set. A forkserver, which may start
        # here, must see them.
        death = [signal.SIGCHLD] if start_method == "fork" else []
        with signals_blocked(*death), warnings.catch_warnings():
            # The number of workers was asked for, whatever torch thinks of it.
            warnings.filterwarnings("ignore", ".*worker processes", UserWarning)
            # Python 3.12 and later warn of fork() beside any thread, also beside the idle ones
            # of a BLAS library, which are safe, as are those that this class leaves.
            warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
            try:
                self._iterator = iter(
                    DataLoader(
                        dataset,
                        batch_sampler=plan,
                        num_workers=count,
                        collate_fn=_as_it_is,
                        multiprocessing_context=start_method,
                        worker_init_fn=settle_in if count else None,
                        prefetch_factor=BATCHES_AHEAD if count else None,
                        in_order=True,
                    )
                )
            except OSError as error:
                raise WorkerError(
                    f"cannot start {count} processes that read: {error.strerror or error}",
                    "ask for fewer --workers; 0 reads without them",
                ) from error
            finally:
                self._processes = [
                    process
                    for process in multiprocessing.active_children()
                    if process not in children_before
                ]
                if self._iterator is None:
                    self._kill()
            if count:
                self._handler = _replace_sigchld_handler(_do_nothing)
                self._watch = threading.Thread(target=self._watch_over, daemon=True)
                self._watch.start()

    def __next__(self) -> Batch:
        """The next batch. Raises WorkerDied, after which all workers have ended."""
        try:
            batch: Batch = next(self._iterator)
        except (RuntimeError, EOFError, OSError, MemoryError) as error:
            if not self._count:
                raise
            self.end()
            raise WorkerDied(self._suspects()) from error
        self._received += 1
        return batch

    def _suspects(self) -> set[int]:
        """The next batch, and those that the dead workers were given: torch gives them in turn."""
        ahead = range(self._received, self._received + BATCHES_AHEAD * self._count)
        places = [self._received, *(place for place in ahead if place % self._count in self._dead)]
        return {self._plan.numbers[place] for place in places if place < len(self._plan)}

    def _watch_over(self) -> None:
        sentinels = [process.sentinel for process in self._processes]
        ended = connection.wait(sentinels)
        self._dead = [place for place, sentinel in enumerate(sentinels) if sentinel in ended]
        self._kill()
        # Reading ends once no process holds the other end of the pipe, and this one does.
        self._iterator._worker_result_queue._writer.close()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def end(self) -> None:
        """End the workers within moments, whatever they are doing.

        torch would ask them to end, and wait five seconds for each one that is busy with a large
        image. They hold nothing but files open for reading, so they are killed.
        """
        if self._watch is None:
            return
        self._kill()
        self._watch.join(SECONDS_TO_DIE)
        for process in self._processes:
            process.join(SECONDS_TO_DIE)
        # A worker may have died with the lock of the event by which torch tells them to end.
        self._iterator._workers_done_event = threading.Event()
        self._iterator._shutdown_workers()
        # Nothing else can be forked safely while threads of the queues are still ending.
        for thread in set(threading.enumerate()) - self._threads_before:
            if thread.name == "QueueFeederThread":
                thread.join(SECONDS_TO_DIE)
        self._watch = None
        _replace_sigchld_handler(self._handler)


def _as_it_is(batch: Any) -> Any:
    return batch


def _do_nothing(_signum: int, _frame: FrameType | None) -> None:
    pass


def _replace_sigchld_handler(handler: Any) -> Any:
    """Set a handler for SIGCHLD, where there is one and it can be set, and give the one before."""
    if not hasattr(signal, "SIGCHLD") or handler is None:
        return None
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGCHLD, handler)
