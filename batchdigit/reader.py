"""Batches of images from a list of files: a dataset that decodes whole batches, and its reader.

Worker processes read: PyTorch's DataLoader (:mod:`batchdigit.loader`), or where PyTorch is not
wanted a pool of our own (:mod:`batchdigit.pool`). A worker sends one message a batch, as bytes
through a pipe, and what failed travels in it.

Nothing that a file holds can end a worker's loop with an exception; when a worker dies all
the same, the files that it may have died of are read again, each by itself.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchdigit.batches import Batch, Digit, Failure, join_batches
from batchdigit.errors import ImageError, one_line
from batchdigit.images.decode import decode_image, decode_plain_png, strict_pillow
from batchdigit.images.preprocess import (
    ENOUGH_PIXELS,
    SIZE,
    look_like_mnist,
    to_grey,
    to_model_input,
)
from batchdigit.isolation import LoneReader
from batchdigit.job import Reading
from batchdigit.pool import Pool
from batchdigit.reading.clocks import FileClocks
from batchdigit.reading.startup import one_thread
from batchdigit.sources.contents import read_file
from batchdigit.sources.filelist import FileList
from batchdigit.system.processes import check_left_behind
from batchdigit.system.signals import signals_blocked, signals_held
from batchdigit.system.stopwatch import Laps
from batchdigit.workers import OpenWorkers, Plan, WorkerDied, Workers

_DEFAULT_READING = Reading()
JUDGED_AT_ONCE = 256  # images, so that judging takes little memory, however large a batch


class DigitFiles:
    """Digit images by their position in a file list; ``__getitems__`` reads a whole batch.

    A map-style dataset for PyTorch's DataLoader, which need not be there.
    """

    def __init__(self, files: FileList, reading: Reading = _DEFAULT_READING) -> None:
        self.files = files
        self.reading = reading
        self.report_to(FileClocks(1, None), 0)

    def report_to(self, clocks: FileClocks, place: int) -> None:
        """Say to ``clocks`` which file is being read, as the process at ``place``."""
        self._clocks = clocks
        self._place = place
        clocks.stop(place)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Read, decode and preprocess the files at ``indices``, one after another.

        The DataLoader calls this with each batch's indices in place of ``__getitem__``.
        """
        rows = _Rows(indices)
        laps = Laps()
        with strict_pillow(self.reading.max_pixels):
            for row in range(len(indices)):
                self._attempt(self._read, rows, row, laps)
            laps.enter("fit")
            for row in rows.judge():
                self._attempt(_fit, rows, row, laps)
        laps.enter(None)
        self._clocks.stop(self._place)
        return rows.batch(laps.seconds)

    def _attempt(
        self, work: Callable[[_Rows, int, Laps], None], rows: _Rows, row: int, laps: Laps
    ) -> None:
        """Do ``work`` on the file of a row; what is wrong with it becomes a failure."""
        self._clocks.start(self._place, rows.indices[row])
        try:
            work(rows, row, laps)
        except ImageError as error:
            rows.fail(row, error.stage, error.message)
        except Exception as error:  # noqa: BLE001
            # One file must not take its batch along, whatever Pillow or numpy raised.
            rows.fail(row, "decode", one_line(f"{type(error).__name__}: {error}"))

    def _read(self, rows: _Rows, row: int, laps: Laps) -> None:
        reading = self.reading
        how = reading.preprocess
        laps.enter("read")
        contents = read_file(
            self.files.path(rows.indices[row]),
            follow_symlinks=reading.follow_symlinks,
            max_bytes=reading.max_bytes,
        )
        laps.enter("decode")
        image: Image.Image | NDArray[np.uint8] | None = decode_plain_png(contents)
        if image is None:
            image = decode_image(contents, enough=None if how == "exact" else ENOUGH_PIXELS)
            laps.enter("fit")
        pixels = to_grey(image, how)
        if how == "auto" and pixels.shape == SIZE:
            rows.put_off(row, pixels)
        else:
            laps.enter("fit")
            rows.put(row, to_model_input(pixels, how))


def _fit(rows: _Rows, row: int, _laps: Laps) -> None:
    rows.put(row, to_model_input(rows.pixels(row), "fit"))


class _Rows:
    """The images of a batch while it is read: a row for each of ``indices``, or a failure.

    Those that have the right size are judged together at the end, which takes a fraction of the
    time.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        count = len(indices)
        self.indices = indices
        self._images = np.zeros((count, 1, *SIZE), np.uint8)
        self._treatments = np.zeros(count, np.uint8)
        self._ink = np.zeros(count, np.float32)
        self._usable = np.ones(count, np.bool_)
        self._failures: dict[int, Failure] = {}
        self._put_off: list[int] = []

    def put(self, row: int, digit: Digit) -> None:
        """The image of a row, as the network gets it."""
        self._images[row, 0], self._treatments[row], self._ink[row] = digit

    def put_off(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """The image of a row, uint8[28, 28], that is as the network gets it if it is like MNIST."""
        self._images[row, 0] = pixels
        self._put_off.append(row)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """The image of a row, uint8[28, 28]."""
        pixels: NDArray[np.uint8] = self._images[row, 0].copy()
        return pixels

    def fail(self, row: int, stage: str, message: str) -> None:
        """There is no image in this row."""
        self._usable[row] = False
        self._failures[row] = Failure(self.indices[row], stage, message)

    def judge(self) -> list[int]:
        """The rows that were put off and are to be fitted, for they do not look like MNIST's."""
        unlike: list[int] = []
        for start in range(0, len(self._put_off), JUDGED_AT_ONCE):
            rows = np.array(self._put_off[start : start + JUDGED_AT_ONCE], np.int64)
            likeness = look_like_mnist(self._images[rows, 0])
            self._ink[rows] = likeness.ink
            unlike += rows[~likeness.mnist].tolist()
        return unlike

    def batch(self, busy: Mapping[str, float]) -> Batch:
        """What has come of it."""
        # A mask copies; where every row is usable, the arrays go as they are.
        usable = self._usable if self._failures else slice(None)
        return Batch(
            np.array(self.indices, np.int64)[usable],
            self._images[usable],
            self._treatments[usable],
            self._ink[usable],
            tuple(self._failures[row] for row in sorted(self._failures)),
            busy,
        )


class Reader:
    """Iterates once over the batches of a file list, in its order.

    A context manager: entering it starts the worker processes at once, so that they read while
    the caller loads its model, and before the caller starts threads of its own; leaving it ends
    them. ``workers`` 0 reads in this process. ``places``, int64[N] ascending, are the positions
    in the list to read, all where it is None. ``open_workers`` says which kind of processes read.

    A worker that dies is replaced. What it was reading is read by itself, file after file, and a
    file that ends or stalls that process too becomes a failure. Raises WorkerError where
    processes cannot be started.
    """

    def __init__(  # noqa: PLR0913  (all but one by name, each an option of its own)
        self,
        files: FileList,
        *,
        batch_size: int,
        workers: int,
        start_method: str | None = None,
        reading: Reading = _DEFAULT_READING,
        places: NDArray[np.int64] | None = None,
        open_workers: OpenWorkers = Pool,
    ) -> None:
        self.batch_size = batch_size
        self.workers = workers
        self.start_method = (start_method or default_start_method()) if workers else None
        self._dataset = DigitFiles(files, reading)
        places = np.arange(len(files)) if places is None else places
        self._all = Plan(places, batch_size, range(math.ceil(len(places) / batch_size)))
        self._open_workers = open_workers
        self._workers: Workers | None = None
        self._inside = False
        self._suspects: set[int] = set()
        self._lone_reader: LoneReader | None = None

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._all)

    def __enter__(self) -> Reader:
        one_thread.__enter__()
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
        one_thread.__exit__()

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


def default_start_method() -> str:
    """The cheapest safe way to start workers in this process.

    ``fork`` needs no second import of torch (seconds for each worker) but copies the locks of
    every thread in whatever state they are, and a CUDA context not at all; so it is chosen on
    Linux as long as this process runs one Python thread and has not touched CUDA. Processes that
    replace others are forked as the first were, beside threads that compute: they only read files,
    and touch neither those threads' library nor anything that these could have locked.
    """
    if sys.platform != "linux":
        return "spawn"
    torch = sys.modules.get("torch")  # without it nobody has touched CUDA
    if threading.active_count() > 1 or (torch and torch.cuda.is_initialized()):
        return "forkserver"
    return "fork"
