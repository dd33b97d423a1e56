"""Reading one file at a time, to find the one that ends or stalls the process that reads it."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from batchdigit.batches import Batch, Failure
from batchdigit.errors import WorkerError
from batchdigit.models.spec import MNIST
from batchdigit.reading.clocks import SECONDS_TO_START
from batchdigit.reading.startup import one_thread, settle_in
from batchdigit.system.processes import (
    SECONDS_BETWEEN_LOOKS,
    check_left_behind,
    end_processes,
    starting_processes,
)
from batchdigit.system.signals import signals_blocked

ATTEMPTS = 2  # a process may have been killed for no fault of the file
SECONDS_TO_CRASH = 0.5


class LoneReader:
    """Reads one file at a time in a process of its own, which is replaced when a file ends it.

    ``read`` gives the batch of one file and must be picklable. ``end`` it when all is read.
    """

    def __init__(
        self, read: Callable[[list[int]], Batch], *, seconds: float, start_method: str
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._context: Any = multiprocessing.get_context(start_method)
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def read(self, index: int) -> Batch:
        """The batch of the file at ``index``; it holds a failure where the file ends or stalls us.

        Raises WorkerError when no process can be started.
        """
        for _ in range(ATTEMPTS):
            pipe = self.ready()
            try:
                pipe.send(index)
                if not self._answers(pipe):
                    self.end()
                    return _failed(index, "timeout", f"not read within {self._seconds:g} s")
                answer: Batch = pipe.recv()
            except (EOFError, OSError):
                exit_code = self.end(SECONDS_TO_CRASH)
            else:
                return answer
        return _failed(index, "decode", f"crashed the process that read it ({_died(exit_code)})")

    def _answers(self, pipe: Connection) -> bool:
        """Whether an answer comes in time; what this process sleeps, stopped by Ctrl-Z, is none."""
        looks = math.ceil(self._seconds / SECONDS_BETWEEN_LOOKS)
        return any(pipe.poll(self._seconds / looks) for _ in range(looks))

    def ready(self) -> Connection:
        """The pipe to a process that is ready to read. Raises WorkerError."""
        for _ in range(ATTEMPTS):
            if self._pipe is not None:
                return self._pipe
            self._start()
        raise WorkerError("processes that read end as soon as they start", "run again")

    def _start(self) -> None:
        check_left_behind()
        with one_thread, starting_processes():
            pipe, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs, self._read), daemon=True)
            try:
                process.start()
            except OSError as error:
                raise WorkerError(
                    f"cannot start a process that reads: {error.strerror or error}",
                    "free some memory or processes, then run again",
                ) from error
            finally:
                theirs.close()
            self._pipe, self._process = pipe, process
        # Starting may take longer than a file does, but not for ever.
        try:
            if not pipe.poll(SECONDS_TO_START):
                raise WorkerError("a process that reads does not start", "run again")
            pipe.recv()
        except EOFError:  # it has ended, and read nothing
            self.end()

    def end(self, seconds: float = 0.0) -> int | None:
        """End the process, unless it does so itself within ``seconds``, and give its exit code."""
        with signals_blocked():
            if self._process is None or self._pipe is None:
                return None
            process, self._process = self._process, None
            self._pipe.close()
            self._pipe = None
            process.join(seconds)
            end_processes([process])
            return process.exitcode


def _serve(pipe: Connection, read: Callable[[list[int]], Batch]) -> None:
    settle_in()
    with contextlib.suppress(EOFError, OSError):  # nobody asks any more
        pipe.send(None)
        while True:
            pipe.send(read([pipe.recv()]))


def _failed(index: int, stage: str, message: str) -> Batch:
    return Batch(
        np.empty(0, np.int64),
        np.empty((0, *MNIST.shape), np.uint8),
        np.empty(0, np.uint8),
        np.empty(0, np.float32),
        (Failure(index, stage, message),),
    )


def _died(exit_code: int | None) -> str:
    """How a process ended, in words."""
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
