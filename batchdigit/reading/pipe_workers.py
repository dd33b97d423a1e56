"""Worker processes without PyTorch, each with its own pipe to this process."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import time
from collections import deque
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from batchdigit.batches import Batch
from batchdigit.errors import WorkerError
from batchdigit.reading.clocks import FileClocks
from batchdigit.reading.startup import settle_in
from batchdigit.reading.workers import Files, Plan, WorkerDied
from batchdigit.system.processes import (
    SECONDS_BETWEEN_LOOKS,
    end_processes,
    start_with_pipe,
    starting_processes,
)
from batchdigit.system.signals import signals_blocked
from batchdigit.system.words import counted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BYTES_IN_A_PIPE = 1 << 20  # what Linux grants any user
_LENGTH = 8


class PipeWorkers:
    """Iterates once over the batches of ``plan``, in order, read by ``count`` processes.

    The processes take turns, so it is known through whose pipe the next batch comes. Nothing else
    holds the other end of that pipe, so the pipe ends when its process does, even in the middle of
    a message. A process that spends longer than ``seconds`` on an image is stuck.

    Raises WorkerError when processes cannot be started. Needs POSIX.
    """

    def __init__(
        self, files: Files, plan: Plan, count: int, start_method: str, seconds: float
    ) -> None:
        if fcntl is None:
            raise WorkerError(
                "on Windows, only --backend torch has worker processes", "add --workers 0"
            )
        self._seconds = seconds
        self._clocks = FileClocks(count, start_method)
        self._awake_since = 0.0
        self._batches = len(plan)
        self._received = 0
        self._lines: list[_Line] = []
        ahead = plan.batches_ahead(count)
        with starting_processes():
            try:
                for place in range(count):
                    share = plan.share(place, count)
                    arguments = (files, share, self._clocks, place, ahead)
                    self._lines.append(_Line(start_method, arguments))
            except (OSError, RuntimeError, pickle.PicklingError) as error:
                self.end()
                raise WorkerError(
                    f"cannot start {counted(count, 'worker process', 'worker processes')}: {error}",
                    "use a smaller --workers; 0 reads in the main process",
                ) from error

    def __next__(self) -> Batch:
        """The next batch. Raises WorkerDied, after which all processes have ended."""
        if self._received == self._batches:
            raise StopIteration
        place = self._received % len(self._lines)
        if not self._wait_for(place):
            self._lines[place].process.kill()
            file = self._clocks.file(place)
            self.end()
            raise WorkerDied(file)
        self._received += 1
        return self._lines[place].take()

    def _wait_for(self, place: int) -> bool:
        """Whether a message comes before the process dies or gets stuck."""
        line = self._lines[place]
        heard = time.monotonic()
        while not line.holds_a_message():
            looked = time.monotonic()
            if connection.wait([line.end], SECONDS_BETWEEN_LOOKS):
                if not line.receive():
                    return False
                heard = time.monotonic()
            elif time.monotonic() - looked > 2 * SECONDS_BETWEEN_LOOKS:
                self._awake_since = time.monotonic()  # all were stopped, by Ctrl-Z, for example
            elif self._is_stuck(place, heard):
                return False
            elif not line.process.is_alive() and not line.end.poll():
                return False  # it died, but some other process holds the other end, too
        return True

    def _is_stuck(self, place: int, heard: float) -> bool:
        """Whether the process has been at one image, or at sending (it was stopped), for too long.

        ``heard`` is when something came from it last.
        """
        since = max(heard, self._awake_since)
        return self._clocks.is_silent(place, self._seconds, since) or self._clocks.is_stuck(
            place, self._seconds, self._awake_since
        )

    def end(self) -> None:
        """End the processes within moments, whatever they are doing."""
        with signals_blocked():
            end_processes([line.process for line in self._lines])
            for line in self._lines:
                line.end.close()
            self._lines = []


class _Line:
    """A worker process and the messages that come from it.

    Bytes are taken as they come: a wait for a whole message would never end if the process is
    stopped half-way.
    """

    def __init__(self, start_method: str, arguments: tuple[Any, ...]) -> None:
        self.process, self.end = start_with_pipe(start_method, _serve, arguments)
        with contextlib.suppress(OSError, AttributeError):  # Linux only
            fcntl.fcntl(self.end.fileno(), fcntl.F_SETPIPE_SZ, BYTES_IN_A_PIPE)
        self._bytes = bytearray()

    def receive(self) -> bool:
        """Take the bytes that are there; returns False if the line has ended."""
        part = os.read(self.end.fileno(), BYTES_IN_A_PIPE)
        self._bytes += part
        return bool(part)

    def holds_a_message(self) -> bool:
        """Whether a whole message is there."""
        return len(self._bytes) >= _LENGTH and len(self._bytes) >= self._message_end()

    def take(self) -> Batch:
        """Take the first message."""
        end = self._message_end()
        batch: Batch = pickle.loads(memoryview(self._bytes)[_LENGTH:end])  # noqa: S301  (ours)
        del self._bytes[:end]
        return batch

    def _message_end(self) -> int:
        return _LENGTH + int.from_bytes(self._bytes[:_LENGTH], "little")


def _serve(
    line: Connection, files: Files, plan: Plan, clocks: FileClocks, place: int, ahead: int
) -> None:
    """Read all batches of ``plan``; up to ``ahead`` of them may wait to be sent."""
    settle_in(files.memory(plan.batch_size))
    files.report_to(clocks, place)
    os.set_blocking(line.fileno(), False)
    waiting: deque[memoryview] = deque()
    with contextlib.suppress(BrokenPipeError):  # the parent has closed its end
        for indices in plan:
            message = pickle.dumps(files.__getitems__(indices), protocol=5)
            waiting.append(memoryview(len(message).to_bytes(_LENGTH, "little") + message))
            _send(line.fileno(), waiting, leave=ahead)
        _send(line.fileno(), waiting, leave=0)


def _send(line: int, waiting: deque[memoryview], *, leave: int) -> None:
    """Send what the pipe takes; block only while more than ``leave`` messages wait."""
    while waiting:
        try:
            sent = os.write(line, waiting[0])
        except BlockingIOError:
            if len(waiting) <= leave:
                return
            select.select([], [line], [])
        else:
            rest = waiting.popleft()[sent:]
            if rest:
                waiting.appendleft(rest)
