"""Batches of images from a list of files: a Dataset that decodes whole batches, a DataLoader.

A worker process sends one message a batch, as bytes through a pipe, and what failed travels in
it. Nothing that a file holds can end a worker's loop with an exception.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from batchdigit.decode import decode_image, read_file, strict_pillow
from batchdigit.errors import ImageError, WorkerError, one_line
from batchdigit.filenames import FileList
from batchdigit.preprocess import SIZE, to_model_input
from batchdigit.records import Batch, Failure

SECONDS_TO_FINISH = 1.0  # for a worker that is busy when its batches are no longer wanted

_STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class DigitFiles(Dataset[Batch]):
    """Digit images by their position in a file list; ``__getitems__`` reads a whole batch."""

    def __init__(self, files: FileList, *, follow_symlinks: bool = False) -> None:
        self.files = files
        self.follow_symlinks = follow_symlinks

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Read, decode and preprocess the files at ``indices``, one after another.

        The DataLoader calls this with each batch's indices in place of ``__getitem__``.
        """
        images = torch.empty((len(indices), 1, *SIZE), dtype=torch.uint8)
        pixels = images.numpy()
        usable: list[int] = []
        failures: list[Failure] = []
        with strict_pillow():
            for index in indices:
                try:
                    path = self.files.path(index)
                    data = read_file(path, follow_symlinks=self.follow_symlinks)
                    pixels[len(usable), 0] = to_model_input(decode_image(data))
                    usable.append(index)
                except ImageError as error:
                    failures.append(Failure(index, error.stage, error.message))
                except Exception as error:  # noqa: BLE001
                    # One file must not take its batch along, whatever Pillow or numpy raised.
                    message = one_line(f"{type(error).__name__}: {error}")
                    failures.append(Failure(index, "decode", message))
        return Batch(
            torch.tensor(usable, dtype=torch.int64), images[: len(usable)], tuple(failures)
        )


class Reader:
    """Iterates once over the batches of a file list, in its order.

    A context manager: entering it starts the worker processes at once, so that they read while
    the caller loads its model, and before the caller starts threads of its own; leaving it ends
    them. ``workers`` 0 reads in this process.

    Entering, and the block itself, raise WorkerError when a worker cannot start or dies.
    """

    def __init__(
        self,
        files: FileList,
        *,
        batch_size: int,
        workers: int,
        start_method: str | None = None,
        follow_symlinks: bool = False,
        pin_memory: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self.workers = workers
        self.start_method = (start_method or default_start_method()) if workers else None
        self._options: dict[str, Any] = {
            "dataset": DigitFiles(files, follow_symlinks=follow_symlinks),
            "batch_size": batch_size,
            "num_workers": workers,
            "collate_fn": _as_it_is,
            "pin_memory": pin_memory,
            "multiprocessing_context": self.start_method,
            "worker_init_fn": _block_signals if workers else None,
            "in_order": True,
        }
        self._batches: Iterator[Batch] | None = None
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> Reader:
        before = multiprocessing.active_children()
        # Workers inherit the blocked signals and never unblock them: a Ctrl-C or a service
        # manager signals every process at once, and this one alone decides what follows.
        with _blocked_signals(), warnings.catch_warnings():
            # The number of workers was asked for, whatever torch thinks of it.
            warnings.filterwarnings("ignore", ".*worker processes", UserWarning)
            # Python 3.12 and later warn of fork() beside any thread, also beside the idle ones
            # of a BLAS library, which are safe; default_start_method() rules out the others.
            warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
            try:
                self._batches = iter(DataLoader(**self._options))
            except OSError as error:
                raise WorkerError(
                    f"cannot start {self.workers} processes that read: {error.strerror or error}",
                    "ask for fewer --workers; 0 reads without them",
                ) from error
            finally:
                self._processes = [
                    process
                    for process in multiprocessing.active_children()
                    if process not in before
                ]
                if self._batches is None:
                    self._end_workers()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._processes:
            with _blocked_signals():
                self._end_workers()
        self._batches = None
        # torch notices a dead worker in a signal handler, and raises wherever the main thread
        # happens to be: in the middle of the network, most likely.
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            raise WorkerError(
                f"a process that reads images died: {error}",
                "run again with --workers 0 to read without such processes",
            ) from error

    def __iter__(self) -> Iterator[Batch]:
        if self._batches is None:
            raise ValueError("a Reader is iterated inside its with block")
        return self._batches

    def _end_workers(self) -> None:
        """End the workers within moments, whatever they are doing.

        torch would wait five seconds for each one that is busy with a large image, and only when
        its iterator is collected, which the traceback of an exception may hold back. Workers
        hold nothing but files open for reading, so those that take longer are killed.
        """
        shut_down = getattr(self._batches, "_shutdown_workers", None)
        if shut_down is not None and not all(process.is_alive() for process in self._processes):
            # It may have died with the lock of the event by which torch tells workers to end.
            self._kill_workers()
            self._batches._workers_done_event = threading.Event()  # type: ignore[union-attr]
        self._batches = None
        deadline = threading.Timer(SECONDS_TO_FINISH, self._kill_workers)
        deadline.start()
        try:
            if shut_down is not None:
                with _unnoticed_deaths():
                    shut_down()
        finally:
            deadline.cancel()
            deadline.join()
            self._kill_workers()
            for process in self._processes:
                process.join()
            self._processes = []

    def _kill_workers(self) -> None:
        for process in self._processes:
            process.kill()


def default_start_method() -> str:
    """The cheapest safe way to start workers in this process.

    ``fork`` needs no second import of torch (seconds for each worker) but copies the locks of
    every thread in whatever state they are, and a CUDA context not at all; so it is chosen on
    Linux as long as this process runs one Python thread and has not touched CUDA.
    """
    if sys.platform != "linux":
        return "spawn"
    if threading.active_count() > 1 or torch.cuda.is_initialized():
        return "forkserver"
    return "fork"


def available_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return multiprocessing.cpu_count()


def _as_it_is(batch: Any) -> Any:
    return batch


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _unnoticed_deaths() -> Iterator[None]:
    """Keep torch, which watches SIGCHLD, from raising because of workers that we end ourselves."""
    watched = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    if not watched:
        yield
        return
    before = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _block_signals(_worker: int) -> None:
    """Block them in a worker whose parent is a forkserver that was there before."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
