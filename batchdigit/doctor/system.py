"""What a run gets from the system: processors, memory, files and processes."""

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
from batchdigit.system.words import counted

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MIN_MEMORY = 1 << 30
MIN_FILES = 256  # a run with 16 workers opens about 60
MIN_PROCESSES = 256  # threads count, too, and so do all other programs of the user
MIN_SHARED = 1 << 20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (nothing is written there)


def processor(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """How many cores a run may use, why not more, and how many threads the user asks for."""
    cores, total = available_cores(), os.cpu_count() or 1
    text = f"{cores} of {counted(total, 'core')} may be used"
    if affine_cores() < total:
        text += f", the affinity allows {affine_cores()}"
    if (quota := cpu_quota()) is not None:
        text += f", the quota allows {quota:g}"
    units = "has" if has_bfloat16_units() else "has no"
    text += f"; {platform.machine()}, {units} bfloat16 units"
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted:
        text += f"; OMP_NUM_THREADS={wanted}"
    remedy = f"set OMP_NUM_THREADS to {cores} or less, or leave it unset"
    if wanted and not wanted.isdecimal():
        yield warning("processor", f"{text} is not a whole number", remedy)
    elif wanted and int(wanted) > cores:
        yield warning("processor", f"{text} is more than that", remedy)
    else:
        yield ok("processor", text)


def memory(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """How much memory a run may still use, of the machine and within the limit of a container."""
    available = available_memory()
    if available is None:
        yield ok("memory", "cannot be found out on this system")
    elif available < MIN_MEMORY:
        yield warning(
            "memory",
            f"{size(available)} may be used, less than {size(MIN_MEMORY)}",
            "end other programs or raise the limit; otherwise large images may become error rows",
        )
    else:
        yield ok("memory", f"{size(available)} may be used")


def limits(_job: Job, _earlier: Earlier) -> Iterator[Finding]:
    """How many open files and how many processes the user may have."""
    if resource is None:
        yield ok("limits", "cannot be found out on this system")
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
    """Whether semaphores can be created, which the workers of PyTorch need."""
    if sys.platform != "linux":
        yield ok("shared memory", "has no folder on this system")
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
    """A number of bytes as people write it, such as ``23.5 GB``."""
    unit, name = (1 << 30, "GB") if count >= 1 << 30 else (1 << 20, "MB")
    return f"{count / unit:.1f} {name}"
