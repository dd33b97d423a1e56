"""Which device computes."""

from __future__ import annotations

import torch

from batchdigit.errors import DeviceError
from batchdigit.job import check_device_name


def choose_device(name: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` takes the first of CUDA, MPS and the CPU that is there. Raises DeviceError for a device
    that is missing, UsageError for a name that is not a device's.
    """
    check_device_name("--device", name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind == "cuda":
        index = int(number or 0)
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if index >= count:
            raise DeviceError(
                f"--device {name} is not here; usable CUDA devices: {count}",
                "choose another device, or leave --device off; "
                "`python -m torch.utils.collect_env` shows more",
            )
        return torch.device("cuda", index)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(
            "--device mps: no usable Apple GPU here", "choose cpu, or leave --device off"
        )
    return torch.device(kind)


def describe_device(device: torch.device) -> str:
    """``cuda:0 (NVIDIA ...)`` for a CUDA device, else its type."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device.type
