"""Settings that a run was not given: the batch size, and how many processes read."""

from __future__ import annotations

import math
import statistics
import sys

from batchdigit.backends.base import Backend, Model
from batchdigit.job import Computing, Reading
from batchdigit.reading.pipe_workers import PipeWorkers
from batchdigit.reading.startup import choose_start_method
from batchdigit.reading.workers import OpenWorkers
from batchdigit.sources.base import Source
from batchdigit.system import new_process
from batchdigit.system.machine import available_cores

MAX_WORKERS = 16
SECONDS_WORTH_A_WORKER = 0.05  # of reading; a fork takes a fraction of that
SECONDS_TO_READ_A_BATCH = 0.5  # of large images, so that several processes get some
FILES_TO_LOOK_AT = 64
# Measured on one core: a file of MNIST takes 20 µs, a small drawing 300 µs, a phone photo 120 ns a
# byte, which is 70 times what the network takes.
SECONDS_TO_READ = 20e-6
SECONDS_TO_READ_A_BYTE = 120e-9
SECONDS_TO_COMPUTE = 150e-6


def seconds_to_read(job: Reading, source: Source) -> float:
    """A guess at how long one core takes to read an image, from the sizes of some images."""
    count = len(source)
    sizes = source.stamps(range(0, count, max(1, count // FILES_TO_LOOK_AT))).sizes
    # An image that is larger than allowed is not read.
    read = [size if size <= job.max_bytes else 0 for size in sizes.tolist() if size >= 0]
    return SECONDS_TO_READ + SECONDS_TO_READ_A_BYTE * statistics.median_high([0, *read])


def choose_batch_size(
    job: Computing, backend: Backend, model: Model, seconds: float, count: int
) -> tuple[int, str]:
    """How many of ``count`` images make a batch, and why; reading one takes ``seconds``."""
    if job.batch_size is not None:
        return job.batch_size, "given"
    size, why = backend.batch_size(model)
    if seconds <= SECONDS_TO_COMPUTE:
        return size, why
    # Batches are small enough for all processes to get some, and for progress to show.
    soon = int(SECONDS_TO_READ_A_BATCH / seconds)
    share = math.ceil(count / (2 * available_cores()))
    few = max(1, min(soon, share))
    return (few, "time to read") if few < size else (size, why)


def choose_workers(
    job: Reading, backend: Backend, seconds: float, *, count: int, batches: int
) -> int:
    """How many worker processes read ``count`` images of ``seconds`` each, in ``batches``.

    If reading takes more work than the network, or a GPU computes the network, all cores read.
    Otherwise half of them do, and wait when the network does not keep up. A small folder is read
    before a second worker has started. There is at least one worker where starting it costs no
    more than a fork, because an image that crashes or stalls its reader must not do so to this
    process. There is none in a program that is no Python, and so cannot start one.
    """
    if job.workers is not None:
        return job.workers
    if not count or sys.platform == "win32":
        return 0
    cores = available_cores()
    wanted = cores if seconds > SECONDS_TO_COMPUTE or not backend.on_cpu else cores // 2
    most = min(wanted, MAX_WORKERS, batches, int(count * seconds / SECONDS_WORTH_A_WORKER))
    if choose_start_method(job.start_method) == "fork":
        return max(most, 1)
    return most if new_process.is_possible() else 0


def choose_reader(backend: Backend) -> OpenWorkers:
    """Which forks read: those of the DataLoader where PyTorch computes, else our own."""
    if backend.name == "torch":
        # This imports PyTorch, which the backend has already done.
        from batchdigit.reading.torch_workers import TorchWorkers

        return TorchWorkers
    return PipeWorkers
