"""What this machine has: cores that may be used, a GPU, units for bfloat16. Nothing is imported."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
CPUINFO = Path("/proc/cpuinfo")
# Of NVIDIA's driver, of Windows' GPUs in WSL, of AMD's driver.
GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel, Intel and AMD, ARM


def available_cores() -> int:
    """The processor cores that this process may use, at least 1.

    By its affinity and, in a container, by the quota of its control groups, rounded up.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = multiprocessing.cpu_count()
    return max(1, min([cores, *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """Processors that control groups allow, from this process's group up to the root.

    ``cpu.max`` is of version 2, ``cpu.cfs_quota_us`` of version 1 (Linux, admin-guide/cgroup-v2,
    scheduler/sched-bwc).
    """
    for folder in _own_folders():
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


def _own_folders() -> Iterator[Path]:
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
        elif "cpu" in controllers.split(","):
            root = CGROUPS / "cpu"
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be the host's, of which only the root is to be seen.
        yield from [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def may_have_gpu() -> bool:
    """Whether there may be a GPU that PyTorch can use; only PyTorch can tell for sure."""
    return sys.platform in {"darwin", "win32"} or any(path.exists() for path in GPU_DEVICES)


def has_bfloat16_units() -> bool:
    """Whether the processor computes in bfloat16; False where that cannot be found out."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return False
    flags = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return bool(_BFLOAT16_FLAGS.intersection(next(flags, "").split()))
