"""Energy that processors and GPUs have used, where the machine tells.

Intel's and AMD's processors count joules by RAPL, which Linux shows in ``/sys/class/powercap`` (to
root alone on most systems), NVIDIA's GPUs by NVML, through the package ``nvidia-ml-py``.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts from where it is made. ``gpu`` is the number of a CUDA device, None for none.

    What is counted is the whole processor and the whole GPU, whoever uses them.
    """

    def __init__(self, gpu: int | None) -> None:
        self._gpu = gpu
        self._before = self._counters()

    def joules(self) -> float | None:
        """Joules since then, None where a part that computes does not tell."""
        before, now = self._before, self._counters()
        if before is None or now is None or before.keys() != now.keys():
            return None
        return sum(
            used if (used := now[counter] - before[counter]) >= 0 else used + _range_of(counter)
            for counter in now
        )

    def _counters(self) -> dict[str, float] | None:
        """Joules by counter; None unless all that there should be are there."""
        counters: dict[str, float] = {}
        try:
            # intel-rapl:0 is a whole package, intel-rapl:0:1 a part of it.
            for zone in POWERCAP.glob("intel-rapl:*"):
                if zone.name.count(":") == 1:
                    counters[str(zone)] = int((zone / "energy_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return None
        if not counters:
            return None
        if self._gpu is not None:
            joules = _gpu_joules(self._gpu)
            if joules is None:
                return None
            counters[f"gpu {self._gpu}"] = joules
        return counters


def _range_of(counter: str) -> float:
    """Joules at which a counter begins anew."""
    try:
        return int((Path(counter) / "max_energy_range_uj").read_text()) / 1e6
    except (OSError, ValueError):
        return 0.0


def _gpu_joules(number: int) -> float | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(number)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1000
    except Exception:  # noqa: BLE001  (not installed, no driver, an old GPU: it does not tell)
        return None
