"""Settings of a run that were not given: how many images in a batch, how many processes read."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys

from batchdigit.backends.base import Backend, Model
from batchdigit.job import Job
from batchdigit.reading.startup import default_start_method
from batchdigit.sources.filelist import FileList
from batchdigit.system.machine import available_cores

MOST_WORKERS = 16
SECONDS_WORTH_A_WORKER = 0.05  # of reading: a fork takes a fraction of it
SECONDS_TO_READ_A_BATCH = 0.5  # of large images, so that several processes get some
FILES_TO_LOOK_AT = 64
# Of one core, measured: MNIST's files take 20 µs, small drawings 300 µs, phone photos 120 ns a
# byte, 70 times as much as their network.
SECONDS_TO_READ = 20e-6
SECONDS_TO_READ_A_BYTE = 120e-9
SECONDS_TO_COMPUTE = 150e-6


def seconds_to_read(job: Job, files: FileList) -> float:
    """A guess at how long one core reads a file, by the sizes of some of them."""
    sizes = [0]
    for index in range(0, len(files), max(1, len(files) // FILES_TO_LOOK_AT)):
        with contextlib.suppress(OSError):
            status = os.stat(files.path(index), follow_symlinks=job.follow_symlinks)
            # What is larger than allowed is not read.
            sizes.append(status.st_size if status.st_size <= job.max_bytes else 0)
    return SECONDS_TO_READ + SECONDS_TO_READ_A_BYTE * statistics.median_high(sizes)


def choose_batch_size(
    job: Job, backend: Backend, model: Model, seconds: float, count: int
) -> tuple[int, str]:
    """How many of ``count`` images are in a batch, and why; to read one takes ``seconds``."""
    if job.batch_size is not None:
        return job.batch_size, "given"
    size, why = backend.batch_size(model)
    if seconds <= SECONDS_TO_COMPUTE:
        return size, why
    # All processes get some, and progress is seen.
    soon = int(SECONDS_TO_READ_A_BATCH / seconds)
    share = math.ceil(count / (2 * available_cores()))
    few = max(1, min(soon, share))
    return (few, "time to read") if few < size else (size, why)


def choose_workers(job: Job, backend: Backend, seconds: float, count: int, batches: int) -> int:
    """Worker processes that read ``count`` files of ``seconds`` each, in ``batches``.

    Where reading takes more work than the network, or a GPU does the network's, all cores read;
    else half of them, and they wait when the network does not keep up. A small folder is read
    before a second worker has started. There is at least one where starting it costs no more than
    a fork: a file that crashes or stalls its reader must not do so to this process.
    """
    if job.workers is not None:
        return job.workers
    if not count or sys.platform == "win32":
        return 0
    cores = available_cores()
    wanted = cores if seconds > SECONDS_TO_COMPUTE or not backend.on_cpu else cores // 2
    most = min(wanted, MOST_WORKERS, batches, int(count * seconds / SECONDS_WORTH_A_WORKER))
    return max(most, 1 if default_start_method() == "fork" else 0)
