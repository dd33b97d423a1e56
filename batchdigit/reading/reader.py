"""Batches of images from a source, in its order.

Worker processes read: forks of PyTorch's DataLoader (:mod:`batchdigit.reading.torch_workers`), or
our own where PyTorch does not compute or nothing can be forked
(:mod:`batchdigit.reading.pipe_workers`). A worker sends each
batch as one message of bytes through a pipe, with the batch's failures in it.

Nothing in an image can end a worker's loop with an exception. If a worker dies all the same, the
images that may have killed it are read again, one by one.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Batch, join_batches
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.lone_reader import LoneReader
from batchdigit.reading.pipe_workers import PipeWorkers
from batchdigit.reading.startup import choose_start_method, one_thread
from batchdigit.reading.workers import OpenWorkers, Plan, WorkerDied, Workers
from batchdigit.system.processes import check_left_behind
from batchdigit.system.signals import signals_blocked, signals_held


class Reader:
    """Iterates once over the batches of a source, in its order.

    A context manager. Entering it starts the worker processes, so that they read while the caller
    loads its model, and before the caller starts threads of its own. Leaving it ends them.

    ``images`` are those of a source, and how to read them. ``workers`` 0 reads in this process. A
    source that can only be read through is read by at most one process. ``places``, int64[N]
    ascending, are the positions in the source to read; None means
    all. ``open_workers`` says which kind of forks read; worker processes that begin afresh are our
    own.

    A worker that dies is replaced. The batches that it may have been reading are read image by
    image, and an image that kills or stalls that process, too, becomes a failure. Raises
    WorkerError when processes cannot be started.
    """

    def __init__(
        self,
        images: DigitImages,
        *,
        batch_size: int,
        workers: int,
        places: NDArray[np.int64] | None = None,
        open_workers: OpenWorkers = PipeWorkers,
    ) -> None:
        self.batch_size = batch_size
        self.workers = workers if images.source.random_access else min(workers, 1)
        self.start_method = choose_start_method(images.reading.start_method) if workers else None
        self._dataset = images
        places = np.arange(len(images)) if places is None else places
        numbers = range(math.ceil(len(places) / batch_size))
        self._all = Plan(places, batch_size, numbers, math.prod(images.shape))
        # PyTorch's begin afresh by way of the main module of the user's program.
        forked = self.start_method == "fork" or sys.platform == "win32"
        self._open_workers = open_workers if forked else PipeWorkers
        self._workers: Workers | None = None
        self._inside = False
        self._settings = contextlib.ExitStack()
        self._suspects: set[int] = set()
        self._lone_reader: LoneReader | None = None

    @property
    def how(self) -> str:
        """Which processes read, in words for a person."""
        if self.start_method is None:
            return "this process"
        return "forks of this process" if self.start_method == "fork" else "new processes"

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
            raise ValueError("a Reader can be iterated only inside its with block")
        number = 0
        while number < len(self):
            try:
                batch = self._read(number)
            except WorkerDied as death:
                # Suspect the missing batch, whatever the worker was reading, so that reading
                # always gets on.
                self._suspects.add(number)
                if death.index is not None:
                    self._suspects.add(self._all.batch_of(death.index))
                self._start(number)
            else:
                yield batch
                number += 1

    def _start(self, first: int) -> None:
        """Start workers that read the batches from ``first`` on, except the suspects."""
        numbers = [number for number in range(first, len(self)) if number not in self._suspects]
        plan = replace(self._all, numbers=numbers)
        check_left_behind()
        if self._suspects and self._lone_reader is None:
            self._lone_reader = LoneReader(
                self._dataset.__getitems__,
                memory=self._dataset.memory(1),
                seconds=self._dataset.reading.timeout,
                start_method=self.start_method or choose_start_method(None),
            )
            self._lone_reader.ready()  # best done before any thread starts
        if self.start_method is None or not plan.numbers:
            self._workers = None
            return
        with signals_held():  # until _end() knows the processes
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
