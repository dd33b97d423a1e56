"""Settings of a run that were not given: how many images in a batch, how many processes read."""

from __future__ import annotations

import contextlib
import os
import sys

from batchdigit.backends import Backend, Model
from batchdigit.filenames import FileList
from batchdigit.jobs import MAX_BYTES, Job
from batchdigit.machine import available_cores
from batchdigit.reader import default_start_method

MOST_WORKERS = 16
SECONDS_WORTH_A_WORKER = 0.05  # of reading: a fork takes a fraction of it
SECONDS_TO_READ_A_BATCH = 0.5  # of large images, so that several processes get some
SMALLEST_BATCH = 8
FILES_TO_LOOK_AT = 64
# Of one core, measured: MNIST's files take 35 µs, small drawings 300 µs, phone photos 120 ns a
# byte, 70 times as much as their network.
SECONDS_TO_READ = 30e-6
SECONDS_TO_READ_A_BYTE = 120e-9
SECONDS_TO_COMPUTE = 150e-6


def seconds_to_read(files: FileList) -> float:
    """A guess at how long one core reads a file, by the sizes of some of them."""
    sizes = []
    for index in range(0, len(files), max(1, len(files) // FILES_TO_LOOK_AT)):
        with contextlib.suppress(OSError):
            sizes.append(min(os.stat(files.path(index)).st_size, MAX_BYTES))
    return SECONDS_TO_READ + SECONDS_TO_READ_A_BYTE * sum(sizes) / max(1, len(sizes))


def choose_batch_size(job: Job, backend: Backend, model: Model, seconds: float) -> tuple[int, str]:
    """How many images are in a batch of files that take ``seconds`` each, and why so many."""
    if job.batch_size is not None:
        return job.batch_size, "given"
    size, why = backend.batch_size(model)
    soon = max(SMALLEST_BATCH, int(SECONDS_TO_READ_A_BATCH / seconds))
    return (soon, "time to read") if soon < size else (size, why)


def choose_workers(job: Job, backend: Backend, seconds: float, count: int) -> int:
    """Worker processes that read ``count`` files of ``seconds`` each.

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
    most = min(wanted, MOST_WORKERS, int(count * seconds / SECONDS_WORTH_A_WORKER))
    return max(most, 1 if default_start_method() == "fork" else 0)
