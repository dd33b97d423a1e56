import sys
import types
from pathlib import Path

import pytest

from batchdigit.bench.measuring import energy
from batchdigit.bench.measuring.energy import EnergyMeter


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two processors that count joules, a part that the first one includes, and other zones."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:1": "package-1"}
    for zone, name in (zones | {"intel-rapl:2": "psys", "dtpm": "package"}).items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("262143328850\n")
        set_joules(tmp_path / zone, 100)
    return [tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1"]


def set_joules(zone: Path, joules: float) -> None:
    (zone / "energy_uj").write_text(f"{round(joules * 1e6)}\n")


def fake_gpus(monkeypatch: pytest.MonkeyPatch, joules: list[float]) -> None:
    nvml = types.ModuleType("pynvml")
    nvml.nvmlDeviceGetCount = lambda: len(joules)
    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetHandleByIndex = lambda number: number
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda number: joules[number] * 1000
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_processors_are_added_up(packages: list[Path]) -> None:
    meter = EnergyMeter(gpu=False)
    set_joules(packages[0], 103)
    set_joules(packages[1], 104.5)
    assert meter.joules() == pytest.approx(7.5)


def test_counter_may_wrap_around(packages: list[Path]) -> None:
    set_joules(packages[0], 262143)
    meter = EnergyMeter(gpu=False)
    set_joules(packages[0], 1)
    assert meter.joules() == pytest.approx(1 + 262143.328850 - 262143)


def test_gpu_is_added(packages: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    joules = [50.0]
    fake_gpus(monkeypatch, joules)
    meter = EnergyMeter(gpu=True)
    joules[0] = 80.0
    set_joules(packages[0], 110)
    assert meter.joules() == pytest.approx(40.0)


@pytest.mark.usefixtures("packages")
def test_energy_of_one_of_several_gpus_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(monkeypatch, [1.0, 2.0])
    assert EnergyMeter(gpu=True).joules() is None


def test_machine_that_does_not_tell_has_no_joules(
    packages: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter(gpu=True).joules() is None  # the GPU does not tell
    (packages[1] / "energy_uj").unlink()
    assert EnergyMeter(gpu=False).joules() is None  # a processor does not tell
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    assert EnergyMeter(gpu=False).joules() is None
