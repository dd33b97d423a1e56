"""What the system gives to a run: processor, memory, and limits."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from batchdigit.doctor.findings import Earlier, Finding, ok, warning
from batchdigit.job import Job
from batchdigit.system.machine import (
    affine_cores,
    available_cores,
    available_memory,
    cpu_quota,
    has_bfloat16_units,
)

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MIN_MEMORY = 1 << 30
MIN_FILES = 256  # a run with 16 workers has some 60 open
MIN_PROCESSES = 256  # threads count as well, and so do all other programs of the user
MIN_SHARED = 1 << 20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (looked at only)


def processor(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """How many cores may be used, and why not more; how many threads were asked for."""
    cores, total = available_cores(), os.cpu_count() or 1
    text = f"{cores} of {total} cores may be used"
    if affine_cores() < total:
        text += f", affinity allows for {affine_cores()}"
    if (quota := cpu_quota()) is not None:
        text += f", a quota for {quota:g}"
    units = "has" if has_bfloat16_units() else "has no"
    text += f"; {platform.machine()}, {units} bfloat16 units"
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    remedy = f"set OMP_NUM_THREADS to {cores} or less, or leave it unset"
    if wanted and not wanted.isdecimal():
        yield warning("processor", f"{text}; OMP_NUM_THREADS={wanted} is no whole number", remedy)
    elif wanted and int(wanted) > cores:
        yield warning("processor", f"{text}; OMP_NUM_THREADS={wanted} is more than that", remedy)
    else:
        yield ok("processor", text + (f"; OMP_NUM_THREADS={wanted}" if wanted else ""))


def memory(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """How much memory is left, of the machine's and below the limit of a container."""
    available = available_memory()
    if available is None:
        yield ok("memory", "how much there is cannot be found out here")
    elif available < MIN_MEMORY:
        yield warning(
            "memory",
            f"{size(available)} may be used, less than {size(MIN_MEMORY)}",
            "end other programs or raise the limit; else large images may not be read",
        )
    else:
        yield ok("memory", f"{size(available)} may be used")


def limits(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """How many files and processes the user may have."""
    if resource is None:
        yield ok("limits", "none that can be found out here")
        return
    texts, remedies = [], []
    for what, flag, number, least in (
        ("open files", "n", resource.RLIMIT_NOFILE, MIN_FILES),
        ("processes and threads", "u", resource.RLIMIT_NPROC, MIN_PROCESSES),
    ):
        limit, _ = resource.getrlimit(number)
        unlimited = limit == resource.RLIM_INFINITY
        few = not unlimited and limit < least
        texts.append(f"{'any number of' if unlimited else limit} {what}")
        if few:
            texts[-1] = f"only {texts[-1]}"
            remedies.append(f"ulimit -{flag} {4 * least}")
    if remedies:
        yield warning("limits", ", ".join(texts), " && ".join(remedies))
    else:
        yield ok("limits", ", ".join(texts))


def shared_memory(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """Where semaphores lie, which PyTorch's workers and those of a forkserver take."""
    if sys.platform != "linux":
        yield ok("shared memory", "has no folder here")
        return
    remedy = f"mount a tmpfs that this user can write to at {SHARED_MEMORY}, or use --workers 0"
    try:
        multiprocessing.get_context("fork").Lock()
        usage = shutil.disk_usage(SHARED_MEMORY)
    except (OSError, ImportError) as error:
        yield warning("shared memory", f"{SHARED_MEMORY} cannot be used: {error}", remedy)
        return
    text = f"{SHARED_MEMORY}, {size(usage.free)} free"
    if usage.free < MIN_SHARED:
        yield warning("shared memory", text, f"remove what fills {SHARED_MEMORY}")
    else:
        yield ok("shared memory", text)


def size(count: int) -> str:
    """Bytes as a person reads them, as in ``23.5 GB``."""
    unit, name = (1 << 30, "GB") if count >= 1 << 30 else (1 << 20, "MB")
    return f"{count / unit:.1f} {name}"
