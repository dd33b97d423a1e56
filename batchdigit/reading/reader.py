"""Batches of images from a source, in its order.

Worker processes read: PyTorch's DataLoader (:mod:`batchdigit.reading.torch_workers`), or where
PyTorch is not wanted processes of our own (:mod:`batchdigit.reading.pipe_workers`). A worker sends
one message a batch, as bytes through a pipe, and what failed travels in it.

Nothing that a file holds can end a worker's loop with an exception; when a worker dies all
the same, the files that it may have died of are read again, each by itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Batch, join_batches
from batchdigit.job import Reading
from batchdigit.reading.dataset import DEFAULT_READING, DigitImages
from batchdigit.reading.lone_reader import LoneReader
from batchdigit.reading.pipe_workers import PipeWorkers
from batchdigit.reading.startup import default_start_method, one_thread
from batchdigit.reading.workers import OpenWorkers, Plan, WorkerDied, Workers
from batchdigit.sources.base import Source
from batchdigit.system.processes import check_left_behind
from batchdigit.system.signals import signals_blocked, signals_held


class Reader:
    """Iterates once over the batches of a source, in its order.

    A context manager: entering it starts the worker processes at once, so that they read while
    the caller loads its model, and before the caller starts threads of its own; leaving it ends
    them. ``workers`` 0 reads in this process; a source that can only be read through is read by
    one process at most. ``places``, int64[N] ascending, are the positions in the source to read,
    all where it is None. ``open_workers`` says which kind of processes read.

    A worker that dies is replaced. What it was reading is read by itself, file after file, and a
    file that ends or stalls that process too becomes a failure. Raises WorkerError where
    processes cannot be started.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        workers: int,
        reading: Reading = DEFAULT_READING,
        places: NDArray[np.int64] | None = None,
        open_workers: OpenWorkers = PipeWorkers,
    ) -> None:
        self.batch_size = batch_size
        self.workers = workers if source.random_access else min(workers, 1)
        start_method = reading.start_method or default_start_method()
        self.start_method = start_method if workers else None
        self._dataset = DigitImages(source, reading)
        places = np.arange(len(source)) if places is None else places
        self._all = Plan(places, batch_size, range(math.ceil(len(places) / batch_size)))
        self._open_workers = open_workers
        self._workers: Workers | None = None
        self._inside = False
        self._settings = contextlib.ExitStack()
        self._suspects: set[int] = set()
        self._lone_reader: LoneReader | None = None

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._all)

    def __enter__(self) -> Reader:
        self._settings.enter_context(one_thread)
        self._inside = True
        try:
            self._start(0)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        with signals_blocked():
            if self._workers is not None:
                self._workers.end()
                self._workers = None
            if self._lone_reader is not None:
                self._lone_reader.end()
        self._inside = False
        self._settings.close()

    def __iter__(self) -> Iterator[Batch]:
        if not self._inside:
            raise ValueError("a Reader is iterated inside its with block")
        number = 0
        while number < len(self):
            try:
                batch = self._read(number)
            except WorkerDied as death:
                # The batch that is missing, whatever the worker was at: so the reader gets on.
                self._suspects.add(number)
                if death.index is not None:
                    self._suspects.add(self._all.batch_of(death.index))
                self._start(number)
            else:
                yield batch
                number += 1

    def _start(self, first: int) -> None:
        """Start workers that read the batches from ``first`` on, without those under suspicion."""
        numbers = [number for number in range(first, len(self)) if number not in self._suspects]
        plan = replace(self._all, numbers=numbers)
        check_left_behind()
        if self._suspects and self._lone_reader is None:
            self._lone_reader = LoneReader(
                self._dataset.__getitems__,
                seconds=self._dataset.reading.timeout,
                start_method=self.start_method or default_start_method(),
            )
            self._lone_reader.ready()  # best before any thread starts
        if self.start_method is None or not plan.numbers:
            self._workers = None
            return
        with signals_held():  # until whoever ends the processes knows them
            self._workers = self._open_workers(
                self._dataset, plan, self.workers, self.start_method, self._dataset.reading.timeout
            )

    def _read(self, number: int) -> Batch:
        indices = self._all.indices(number)
        if number in self._suspects and self._lone_reader is not None:
            return join_batches([self._lone_reader.read(index) for index in indices])
        if self._workers is not None:
            return next(self._workers)
        return self._dataset.__getitems__(indices)
