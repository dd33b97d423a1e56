from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from batchdigit.doctor.findings import OK, PROBLEM, WARNING, ok
from batchdigit.doctor.gpus import gpus
from tests.support.machines import fake_driver


class FakeTorch:
    """PyTorch on a machine with ``devices``, each given by the bytes that are free on it."""

    def __init__(self, *devices: int, build: str | None = "13.0", error: str = "") -> None:
        self.version = SimpleNamespace(cuda=build, hip=None)
        self.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))
        self.error = error
        facts = SimpleNamespace(name="NVIDIA X", major=9, minor=0)
        self.cuda = SimpleNamespace(
            is_available=lambda: bool(devices),
            device_count=lambda: len(devices),
            get_device_properties=lambda _index: facts,
            mem_get_info=lambda index: (devices[index], 80 << 30),
            init=self._fail,
        )

    def _fail(self) -> None:
        if self.error:
            raise RuntimeError(self.error)

    def ones(self, rows: int, columns: int, device: str) -> torch.Tensor:
        assert device.startswith("cuda:")
        self._fail()
        return torch.ones(rows, columns)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path where the device of NVIDIA's driver is looked for; nothing is there yet."""
    device = fake_driver(tmp_path, monkeypatch)
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
    )
    return device


def test_gpus_that_compute(driver: Path) -> None:
    driver.touch()
    first, second = gpus(FakeTorch(79 << 30, 100 << 20))
    assert first == ok("cuda:0", "NVIDIA X, compute capability 9.0, 79.0 GB of 80.0 GB free")
    assert (second.name, second.status) == ("cuda:1", WARNING)
    assert "100.0 MB of 80.0 GB free" in second.found


def test_gpus_that_do_not_compute(driver: Path) -> None:
    driver.touch()
    fake = FakeTorch(1 << 30, 1 << 30, error="no kernel image is available\nCompile with ...")
    first, second = gpus(fake)
    assert (first.name, first.status) == ("cuda:0", PROBLEM)  # the one that a run would take
    assert (second.name, second.status) == ("cuda:1", WARNING)
    assert first.found == "does not compute: no kernel image is available"


def test_no_gpu_is_no_fault_and_a_driver_that_is_not_used_is_one(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finding,) = gpus(FakeTorch())
    assert (finding.name, finding.status) == ("gpu", OK)
    driver.touch()
    (finding,) = gpus(FakeTorch(build=None))
    assert finding.status == WARNING
    assert finding.found.startswith(
        "NVIDIA's driver 580.65.06 is here, but this PyTorch is a build"
    )
    old = "The NVIDIA driver on your system is too old (found version 11040)."
    (finding,) = gpus(FakeTorch(error=old))
    assert finding.status == WARNING
    assert finding.found.endswith(old)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    (finding,) = gpus(FakeTorch())
    assert (finding.status, "CUDA_VISIBLE_DEVICES=7" in finding.remedy) == (WARNING, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (finding,) = gpus(FakeTorch())
    assert (finding.status, "hidden" in finding.found) == (OK, True)
