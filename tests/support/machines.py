"""Machines that are not this one: their cores, their memory, their control groups, their GPUs."""

import os
from pathlib import Path

import pytest

from batchdigit.system import machine


def fake_machine(folder: Path, monkeypatch: pytest.MonkeyPatch, *, cores: int) -> None:
    """This process may use ``cores``; all else comes from ``folder``, where no file exists yet.

    ``groups`` stands for /sys/fs/cgroup, ``own`` for /proc/self/cgroup, ``meminfo`` for the file
    of that name in /proc.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)), raising=False)
    monkeypatch.setattr(machine, "CGROUPS", folder / "groups")
    monkeypatch.setattr(machine, "OWN_CGROUPS", folder / "own")
    monkeypatch.setattr(machine, "MEMINFO", folder / "meminfo")


def fake_driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the device of NVIDIA's driver is looked for; there is none until a test makes one.

    ``folder / "version"`` is the file that tells the driver's version.
    """
    monkeypatch.setattr(machine, "GPU_DEVICES", (folder / "nvidiactl",))
    monkeypatch.setattr(machine, "NVIDIA_VERSION", folder / "version")
    return folder / "nvidiactl"
