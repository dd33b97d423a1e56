"""What this machine has: the cores and the memory that may be used, a GPU, units for bfloat16."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
NVIDIA_VERSION = Path("/proc/driver/nvidia/version")
# The devices of NVIDIA's driver, of GPUs in WSL on Windows, and of AMD's driver.
GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel, Intel and AMD, ARM


def available_cores() -> int:
    """How many processor cores this process may use, at least 1.

    What counts is its affinity and, in a container, the quota of its control groups, rounded up.
    """
    quota = cpu_quota()
    cores = affine_cores()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def affine_cores() -> int:
    """How many processor cores this process may run on, whatever its quota."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return multiprocessing.cpu_count()


def cpu_quota() -> float | None:
    """How many processors' time the control groups allow; None where they set no limit."""
    return min(_quotas(), default=None)


def _quotas() -> Iterator[float]:
    """How many processors each control group allows, from this process's group to the root.

    ``cpu.max`` belongs to version 2 of control groups, ``cpu.cfs_quota_us`` to version 1 (Linux,
    admin-guide/cgroup-v2, scheduler/sched-bwc).
    """
    for folder in _own_folders("cpu"):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if quota != "max" and int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no limit is set here
            continue


def available_memory() -> int | None:
    """How many bytes of memory this process may still get; None where that cannot be found out.

    That is the machine's free memory, or less where control groups set a limit. Memory in which
    they cache files is given up when it is needed, so it counts as free.
    """
    try:
        (line,) = (
            line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:")
        )
        return max(0, min([int(line.split()[1]) << 10, *_memory_left()]))
    except (OSError, ValueError):
        return None


def _memory_left() -> Iterator[int]:
    """The bytes that are left below the limit of each control group, of version 2 or 1."""
    for folder in _own_folders("memory"):
        try:
            if (folder / "memory.max").exists():
                limit, usage = "memory.max", "memory.current"
            else:
                limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
            used = int((folder / usage).read_text())
            pairs = map(str.split, (folder / "memory.stat").read_text().splitlines())
            counts = {name: int(value) for name, value in pairs}
            files = counts.get("total_inactive_file", counts.get("inactive_file", 0))
            yield int((folder / limit).read_text()) - used + files
        except (OSError, ValueError):  # no limit is set here
            continue


def _own_folders(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, each followed by those that it lies in."""
    try:
        lines = os.fsdecode(OWN_CGROUPS.read_bytes()).splitlines()
    except OSError:
        return
    for line in lines:
        _, colon, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if controllers == "":
            root = CGROUPS
        elif controller in controllers.split(","):
            root = CGROUPS / controller
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be that of the host, where only the root can be seen.
        yield from [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def may_have_gpu() -> bool:
    """Whether there may be a GPU that PyTorch can use; only PyTorch knows for sure."""
    return sys.platform in {"darwin", "win32"} or any(path.exists() for path in GPU_DEVICES)


def nvidia_driver() -> str | None:
    """The version of NVIDIA's driver; empty if it is not known, None if there is no driver."""
    if not GPU_DEVICES[0].exists():
        return None
    try:
        found = re.search(r"Module.*?\s(\d+(?:\.\d+)+)\s", NVIDIA_VERSION.read_text())
    except OSError:  # in WSL
        return ""
    return found[1] if found else ""


def has_bfloat16_units() -> bool:
    """Whether the processor computes in bfloat16; False where that cannot be found out."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return False
    flags = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return bool(_BFLOAT16_FLAGS.intersection(next(flags, "").split()))
