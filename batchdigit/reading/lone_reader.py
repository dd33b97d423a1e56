"""Reads images one at a time, to find the one that kills or stalls its worker process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from multiprocessing.connection import Connection

from batchdigit.batches import Batch, Failure
from batchdigit.errors import WorkerError
from batchdigit.reading.clocks import SECONDS_TO_START
from batchdigit.reading.startup import one_thread, settle_in
from batchdigit.system.processes import (
    Process,
    answers_within,
    check_left_behind,
    end_processes,
    how_it_ended,
    start_with_pipe,
    starting_processes,
)
from batchdigit.system.signals import signals_blocked

MAX_ATTEMPTS = 2  # a process may have been killed through no fault of the image
SECONDS_TO_CRASH = 0.5


class LoneReader:
    """Reads one image at a time in a worker process, and replaces a process that an image kills.

    ``read`` returns the batch of one image and must be picklable. ``memory`` is how many bytes the
    process may take for it. Call :meth:`end` when done.
    """

    def __init__(
        self,
        read: Callable[[list[int]], Batch],
        *,
        seconds: float,
        start_method: str,
        memory: int | None = None,
    ) -> None:
        self._read = read
        self._memory = memory
        self._seconds = seconds
        self._start_method = start_method
        self._process: Process | None = None
        self._pipe: Connection | None = None

    def read(self, index: int) -> Batch:
        """The batch of the image at ``index``: a failure if it kills or stalls the process.

        Raises WorkerError when no process can be started.
        """
        for _ in range(MAX_ATTEMPTS):
            pipe = self.ready()
            try:
                pipe.send(index)
                if not answers_within(pipe, self._seconds):
                    self.end()
                    why = f"not read within {self._seconds:g} s"
                    return Batch.failed(Failure(index, "timeout", why))
                answer: Batch = pipe.recv()
            except (EOFError, OSError):
                exit_code = self.end(SECONDS_TO_CRASH)
            else:
                return answer
        why = f"crashed the process that read it ({how_it_ended(exit_code)})"
        return Batch.failed(Failure(index, "decode", why))

    def ready(self) -> Connection:
        """The pipe to a worker process that is ready to read. Raises WorkerError."""
        for _ in range(MAX_ATTEMPTS):
            if self._pipe is not None:
                return self._pipe
            self._start()
        raise WorkerError(
            "worker processes end as soon as they start",
            "see that memory suffices and run again, or read without them: --workers 0",
        )

    def _start(self) -> None:
        check_left_behind()
        with one_thread, starting_processes():
            try:
                self._process, self._pipe = start_with_pipe(
                    self._start_method, _serve, (self._read, self._memory), duplex=True
                )
            except OSError as error:
                raise WorkerError(
                    f"cannot start a worker process: {error.strerror or error}",
                    "free some memory or processes, then run again",
                ) from error
        # Starting may take longer than reading an image, but not for ever.
        try:
            if not answers_within(self._pipe, SECONDS_TO_START):
                raise WorkerError("a worker process does not start", "run again")
            self._pipe.recv()
        except EOFError:  # it ended before it read anything
            self.end()

    def end(self, seconds: float = 0.0) -> int | None:
        """End the process, unless it ends by itself within ``seconds``; returns its exit code."""
        with signals_blocked():
            if self._process is None or self._pipe is None:
                return None
            process, self._process = self._process, None
            self._pipe.close()
            self._pipe = None
            process.join(seconds)
            end_processes([process])
            return process.exitcode


def _serve(pipe: Connection, read: Callable[[list[int]], Batch], memory: int | None) -> None:
    settle_in(memory)
    with contextlib.suppress(EOFError, OSError):  # the parent has closed its end
        pipe.send(None)
        while True:
            pipe.send(read([pipe.recv()]))
