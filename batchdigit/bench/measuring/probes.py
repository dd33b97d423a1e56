"""Everything that is measured, each by one function that runs in a process of its own.

All of them go through the same pipeline as ``batchdigit run``.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.choice import open_backend
from batchdigit.backends.opening import open_model_file
from batchdigit.batches import Batch
from batchdigit.bench.measurement import Sample
from batchdigit.bench.measuring.energy import EnergyMeter
from batchdigit.engines.local import LocalEngine
from batchdigit.job import Job
from batchdigit.pipeline import Find, open_session, run
from batchdigit.sources.folder import FolderSource
from batchdigit.system.processes import end_with_parent, keep_memory, obey_parent
from batchdigit.system.stopwatch import Stopwatch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_FAILED = -1
MIN_BATCHES = 4  # for each reading process


def settle(parent: int, folder: str | None = None) -> None:
    """Call it first in a measuring process, to ignore stop signals and end with ``parent``.

    It goes to ``folder``, if there is one.
    """
    obey_parent()
    if folder is not None:
        os.chdir(folder)
    if sys.platform == "linux":
        if os.getppid() != parent:  # it has already ended
            os._exit(1)
    else:  # nothing is forked there; a thread would be in the way
        threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    keep_memory()  # as a run does


def preload(job: Job) -> None:
    """Import the backend of ``job``, and do nothing with it."""
    open_backend(*open_model_file(job))


def do_nothing(_job: Job) -> None:
    """Start the process, and nothing more."""


def in_a_fork(probe: Callable[..., Any], job: Job, *arguments: object) -> Any:
    """``probe(job, *arguments)`` in a fork of this process, which has done nothing but imports.

    So each probe finds memory and libraries as a new run does. A process that has computed before
    would be slowed down by its own readers: each page that it shares with them is copied when it
    is written again.
    """
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context, settle, (os.getpid(),)) as fork:
        return fork.submit(probe, job, *arguments).result()


@dataclass(frozen=True)
class Outcomes:
    """What an engine predicts for N images.

    ``labels`` is int64[N], -1 for an error, ``probs`` float32[N]. ``device``, ``versions`` and
    ``model`` are JSON data from the account of its run.
    """

    labels: NDArray[np.int64]
    probs: NDArray[np.float32]
    device: str
    versions: Mapping[str, str]
    model: Mapping[str, Any]

    @property
    def failed(self) -> int:
        """How many images are errors."""
        return int(np.count_nonzero(self.labels == _FAILED))


def warm_up(job: Job, files: FolderSource) -> Outcomes:
    """Predict ``files``; a process that stays has then loaded and used everything once."""
    labels = np.full(len(files), _FAILED, np.int64)
    probs = np.zeros(len(files), np.float32)
    with open_session(job, Stopwatch(), find=_these(files)) as session:
        for predictions in session.predictions():
            labels[predictions.indices] = predictions.labels[:, 0]
            probs[predictions.indices] = predictions.probs[:, 0]
        account = session.engine.account()
    return Outcomes(labels, probs, session.engine.device, account["versions"], account["model"])


def timed_run(job: Job, files: FolderSource, folder: Path, listing: float) -> Sample:
    """One whole run over ``files``, with its report, which goes into ``folder``.

    The files are not listed again: ``listing`` seconds for each of them are added instead.
    """
    gpu = _gpu_number(job.device)
    _forget_peaks(gpu)
    cpu_seconds, energy = _cpu_seconds(), EnergyMeter(gpu=gpu is not None)
    summary = run(replace(job, out=folder / "preds.csv"), find=_these(files))
    used, joules = _cpu_seconds(), energy.joules()
    if cpu_seconds is not None and used is not None:
        cpu_seconds = used - cpu_seconds
    reader, computed = summary.account["reader"], summary.account["computed"]
    return Sample(
        images=summary.found,
        seconds={
            **summary.seconds,
            "list": summary.seconds["list"] + listing * summary.found,
            "total": summary.seconds["total"] + listing * summary.found,
        },
        busy=summary.busy,
        cpu_seconds=cpu_seconds,
        batch_size=reader["batch_size"],
        workers=reader["workers"],
        threads=computed.get("threads", 1),
        peak_memory=_peak_memory(),
        peak_device_memory=_peak_device_memory(gpu),
        joules=joules,
    )


def network_rate(job: Job, files: FolderSource, seconds: float) -> float:
    """Images per second of the network alone, for about ``seconds``, on a batch in memory."""
    engine = LocalEngine(job, Stopwatch())
    size = engine.batch_size(files)
    with engine.reader(files, np.arange(len(files))) as reader:
        images = np.concatenate([batch.images for batch in reader])
    batch = _filled(images, size)
    with contextlib.closing(engine.predictor().predict(itertools.repeat(batch))) as predicted:
        next(predicted)  # by now every thread computes
        start, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds or not count:
            count += len(next(predicted))
    return count / elapsed


def reading_rate(job: Job, files: FolderSource, seconds: float) -> float | None:
    """Images per second that the processes read for at most ``seconds``, with nothing else running.

    The clock starts once each has read a batch, so their start is no part of it. None where there
    are too few batches for that.
    """
    engine = LocalEngine(job, Stopwatch())
    reader = engine.reader(files, np.arange(len(files)))
    first = max(reader.workers, 1)
    if len(reader) < MIN_BATCHES * first:
        return None
    with reader:
        batches = iter(reader)
        for _ in range(first):
            next(batches)
        start, count = time.perf_counter(), 0
        for number, batch in enumerate(batches, 1):
            count += len(batch) + len(batch.failures)
            enough = time.perf_counter() - start > seconds and number >= first
            if enough:
                break
        return count / (time.perf_counter() - start)


def _these(files: FolderSource) -> Find:
    return lambda _job: files


def _filled(images: NDArray[np.uint8], size: int) -> Batch:
    """A batch of ``size`` that repeats the images uint8[N, C, H, W]; blank ones if N is 0."""
    filled = np.resize(images, (size, *images.shape[1:]))
    return Batch.of(filled)


def _cpu_seconds() -> float | None:
    """Processor time of this process and of its children that have ended."""
    if resource is None:
        return None
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _gpu_number(device: str) -> int | None:
    kind, _, number = device.partition(":")
    return int(number or 0) if kind == "cuda" else None


def _forget_peaks(gpu: int | None) -> None:
    with contextlib.suppress(OSError):  # Linux: resets the peak of the resident set
        Path("/proc/self/clear_refs").write_text("5")
    if gpu is not None:
        import torch

        torch.cuda.reset_peak_memory_stats(gpu)


def _peak_memory() -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _peak_device_memory(gpu: int | None) -> int | None:
    if gpu is None:
        return None
    import torch

    return int(torch.cuda.max_memory_reserved(gpu))
