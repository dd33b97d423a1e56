import multiprocessing.synchronize
import os
import resource
from pathlib import Path

import pytest

from batchdigit.doctor import system
from batchdigit.doctor.findings import OK, WARNING
from tests.support.doctor import check, examined, faults_of
from tests.support.machines import fake_machine
from tests.support.platforms import needs_linux
from tests.support.samples import Program


def test_few_open_files(program: Program) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    code, findings = examined(program, preexec_fn=lower)
    assert code == 0
    finding = faults_of(findings)["limits"]
    assert (finding.status, finding.found[:18]) == (WARNING, "only 64 open files")
    assert "ulimit -n" in finding.remedy


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, status in (("99999", WARNING), ("many", WARNING), ("1", OK)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        (finding,) = check("processor")
        assert finding.status == status
        assert f"OMP_NUM_THREADS={threads}" in finding.found


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's control group, of version 2, on a machine with 8 cores and 64 GB."""
    fake_machine(tmp_path, monkeypatch, cores=4)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    (tmp_path / "meminfo").write_text("MemTotal: 67108864 kB\nMemAvailable: 50331648 kB\n")
    (tmp_path / "own").write_text("0::/inner\n")
    (tmp_path / "groups" / "inner").mkdir(parents=True)
    return tmp_path / "groups" / "inner"


def test_cores_of_a_container(groups: Path) -> None:
    (groups / "cpu.max").write_text("250000 100000\n")
    (finding,) = check("processor")
    assert finding.status == OK
    assert finding.found.startswith(
        "3 of 8 cores may be used, the affinity allows 4, the quota allows 2.5; "
    )


def test_memory_of_a_container(groups: Path) -> None:
    (finding,) = check("memory")
    assert (finding.status, finding.found) == (OK, "48.0 GB may be used")
    (groups / "memory.max").write_text(f"{2 << 30}\n")
    (groups / "memory.current").write_text(f"{1900 << 20}\n")
    (groups / "memory.stat").write_text(f"anon 1\ninactive_file {100 << 20}\n")
    (finding,) = check("memory")
    assert finding.status == WARNING
    assert finding.found.startswith("248.0 MB may be used")


@needs_linux("shared memory is a file system")
def test_shared_memory_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    (finding,) = check("shared memory")
    assert finding.status == WARNING
    assert "Permission denied" in finding.found


@needs_linux("shared memory is a file system")
def test_shared_memory_that_is_missing_or_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "SHARED_MEMORY", tmp_path)
    (finding,) = check("shared memory")
    assert finding.status == OK
    monkeypatch.setattr(system, "MIN_SHARED", 1 << 60)
    (finding,) = check("shared memory")
    assert (finding.status, finding.remedy) == (WARNING, f"remove what fills {tmp_path}")
    monkeypatch.setattr(system, "SHARED_MEMORY", tmp_path / "none")
    (finding,) = check("shared memory")
    assert finding.status == WARNING
    assert "No such file or directory" in finding.found
