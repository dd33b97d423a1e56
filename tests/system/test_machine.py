from pathlib import Path

import pytest

from batchdigit.system import machine
from batchdigit.system.machine import (
    available_cores,
    available_memory,
    has_bfloat16_units,
    may_have_gpu,
    nvidia_driver,
)
from tests.support.machines import fake_driver, fake_machine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with eight cores, whose control groups are the files in this folder."""
    fake_machine(tmp_path, monkeypatch, cores=8)
    return tmp_path


@pytest.mark.usefixtures("groups")
def test_all_cores_without_control_groups() -> None:
    assert available_cores() == 8


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("1000 100000", 1),
        ("9000000 100000", 8),
        ("", 8),
        ("nonsense", 8),
        ("1 0", 8),
    ],
)
def test_quota_of_version_2(groups: Path, limit: str, cores: int) -> None:
    (groups / "own").write_text("0::/service/inner\n")
    (groups / "groups" / "service" / "inner").mkdir(parents=True)
    (groups / "groups" / "service" / "cpu.max").write_text(f"{limit}\n")
    assert available_cores() == cores


def test_smallest_quota_of_all_groups_counts(groups: Path) -> None:
    (groups / "own").write_text("0::/service/inner\n")
    (groups / "groups" / "service" / "inner").mkdir(parents=True)
    (groups / "groups" / "service" / "cpu.max").write_text("200000 100000\n")
    (groups / "groups" / "service" / "inner" / "cpu.max").write_text("500000 100000\n")
    assert available_cores() == 2


def test_quota_of_a_container_that_sees_its_own_group_only(groups: Path) -> None:
    (groups / "own").write_text("0::/system.slice/docker-0123.scope\n")
    (groups / "groups").mkdir()
    (groups / "groups" / "cpu.max").write_text("150000 100000\n")
    assert available_cores() == 2


def test_groups_that_cannot_be_understood_are_no_limit(groups: Path) -> None:
    (groups / "own").write_bytes(b"\nnonsense\n0::/\xff\xfe\n1:name=systemd:/\n")
    assert available_cores() == 8


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_quota_of_version_1(groups: Path, quota: str, cores: int) -> None:
    (groups / "own").write_text("4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/\n")
    folder = groups / "groups" / "cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores() == cores


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("processor: 0\nflags\t\t: fpu avx512f amx_bf16\n\nprocessor: 1\n", True),
        ("flags\t: fpu avx512f avx512_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t: fpu avx2 avx512f\n", False),
        ("", False),
        (None, False),
    ],
)
def test_bfloat16_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, has: bool
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert has_bfloat16_units() == has


def test_gpu_is_thought_possible_where_there_is_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.sys, "platform", "linux")
    device = fake_driver(tmp_path, monkeypatch)
    assert not may_have_gpu()
    device.touch()
    assert may_have_gpu()


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, 8 << 30),
        ({"memory.max": "max", "memory.current": "1", "memory.stat": "file 1"}, 8 << 30),
        ({"memory.max": "4096", "memory.current": "1096", "memory.stat": "inactive_file 96"}, 3096),
        ({"memory.max": "4096", "memory.current": "5000", "memory.stat": "file 1"}, 0),
        ({"memory.max": "4096"}, 8 << 30),
    ],
)
def test_memory_below_the_limit_of_version_2(
    groups: Path, files: dict[str, str], available: int
) -> None:
    (groups / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {8 << 20} kB\n")
    (groups / "own").write_text("0::/service/inner\n")
    (groups / "groups" / "service" / "inner").mkdir(parents=True)
    for name, content in files.items():
        (groups / "groups" / "service" / name).write_text(content + "\n")
    assert available_memory() == available


def test_memory_below_the_limit_of_version_1(groups: Path) -> None:
    assert available_memory() is None
    (groups / "meminfo").write_text("MemAvailable: 8388608 kB\n")
    (groups / "own").write_text("4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/\n")
    (groups / "groups" / "memory").mkdir(parents=True)
    for name, content in (
        ("memory.limit_in_bytes", "4096"),
        ("memory.usage_in_bytes", "3096"),
        ("memory.stat", "inactive_file 1\ntotal_inactive_file 500"),
    ):
        (groups / "groups" / "memory" / name).write_text(content + "\n")
    assert available_memory() == 1500


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed\nGCC version:  9.3.0\n",
            "470.82.01",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release\n",
            "580.65.06",
        ),
        ("nonsense", ""),
        (None, ""),
    ],
)
def test_version_of_nvidias_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, version: str
) -> None:
    device = fake_driver(tmp_path, monkeypatch)
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert nvidia_driver() is None
    device.touch()
    assert nvidia_driver() == version
