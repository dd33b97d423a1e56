"""Energy that processors and GPUs have used, where the machine says so.

Processors by Intel and AMD count joules by RAPL, which Linux shows in ``/sys/class/powercap`` (on
most systems only to root); GPUs by NVIDIA count them by NVML, read by the package ``nvidia-ml-py``.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts from the moment it is made. With ``gpu`` it includes the GPU, if there is just one.

    It counts the whole processor and the whole GPU, whoever uses them.
    """

    def __init__(self, *, gpu: bool) -> None:
        self._gpu = gpu
        self._before = self._counters()

    def joules(self) -> float | None:
        """Joules since then, None where a part that computes has no counter."""
        before, now = self._before, self._counters()
        if before is None or now is None or before.keys() != now.keys():
            return None
        return sum(
            used if (used := now[counter] - before[counter]) >= 0 else used + _range_of(counter)
            for counter in now
        )

    def _counters(self) -> dict[str, float] | None:
        """Joules by counter; None unless every counter that should be there can be read."""
        counters: dict[str, float] = {}
        try:
            # A zone with another name is part of a package, or the whole machine (psys).
            for zone in POWERCAP.glob("intel-rapl:*"):
                if (zone / "name").read_text().startswith("package"):
                    counters[str(zone)] = int((zone / "energy_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return None
        if not counters:
            return None
        if self._gpu:
            joules = _gpu_joules()
            if joules is None:
                return None
            counters["gpu"] = joules
        return counters


def _range_of(counter: str) -> float:
    """Joules at which a counter starts again from 0."""
    try:
        return int((Path(counter) / "max_energy_range_uj").read_text()) / 1e6
    except (OSError, ValueError):
        return 0.0


def _gpu_joules() -> float | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        if pynvml.nvmlDeviceGetCount() > 1:
            return None  # NVML numbers them in an order of its own
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1000
    except Exception:  # noqa: BLE001  (not installed, no driver, an old GPU)
        return None
