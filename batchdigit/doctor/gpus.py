"""The GPUs that PyTorch can use, or why it cannot use those that are there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

from batchdigit.doctor.findings import Finding, ok, problem, warning
from batchdigit.doctor.system import size
from batchdigit.system.machine import nvidia_driver

MIN_MEMORY = 512 << 20
SIDE = 64  # of the matrices that are multiplied to see whether a device computes
_GET_STARTED = 'PyTorch\'s "Get started" page has the line'


def gpus(torch: Any) -> Iterator[Finding]:
    """A finding for each GPU, or one that says why there is none; ``torch`` is the package."""
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _cuda_device(torch, index)
    elif torch.backends.mps.is_available():
        yield _mps_device(torch)
    else:
        yield _none(torch)


def _cuda_device(torch: Any, index: int) -> Finding:
    # auto chooses the first GPU; a fault of another one stops only runs that name it.
    fault = warning if index else problem
    name = f"cuda:{index}"
    try:
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        text = f"{facts.name}, compute capability {facts.major}.{facts.minor}, "
        text += f"{size(free)} of {size(total)} free"
        _compute(torch, name)
    except Exception as error:  # noqa: BLE001  (drivers fail in many ways)
        return fault(
            name,
            f"does not compute: {_first_line(error)}",
            f"install a PyTorch that supports it ({_GET_STARTED}), or run with --device cpu",
        )
    if free < MIN_MEMORY:
        return warning(name, text, "end other programs on it; otherwise batches will be small")
    return ok(name, text)


def _mps_device(torch: Any) -> Finding:
    try:
        _compute(torch, "mps")
    except Exception as error:  # noqa: BLE001
        return problem("mps", f"does not compute: {_first_line(error)}", "run with --device cpu")
    return ok("mps", "computes")


def _compute(torch: Any, device: str) -> None:
    """Raise an exception if the device multiplies wrongly, or not at all."""
    ones = torch.ones(SIDE, SIDE, device=device)
    product = (ones @ ones).cpu()
    if not bool((product == SIDE).all()):
        raise ArithmeticError("it multiplies matrices wrongly")


def _none(torch: Any) -> Finding:
    driver = nvidia_driver()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver is None:
        return ok("gpu", "none: there is no driver for one that PyTorch could use")
    if visible in ("", "-1"):
        return ok("gpu", f"none: hidden by CUDA_VISIBLE_DEVICES={visible}")
    what = f"NVIDIA's driver {driver}".rstrip() + " is here, but "
    if torch.version.cuda is None:
        return warning(
            "gpu",
            f"{what}this PyTorch is a build without CUDA, so the CPU computes",
            f"install PyTorch's build for CUDA ({_GET_STARTED})",
        )
    return warning(
        "gpu",
        f"{what}PyTorch for CUDA {torch.version.cuda} cannot use it, so the CPU computes: "
        + _why_not(torch),
        f"CUDA_VISIBLE_DEVICES={visible} must name a device that is there"
        if visible is not None
        else f"update the driver, or install PyTorch for an older CUDA ({_GET_STARTED})",
    )


def _why_not(torch: Any) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
    except Exception as error:  # noqa: BLE001
        return _first_line(error)
    return "it sees no device"


def _first_line(error: Exception) -> str:
    """The first line of an error; the lines after it in PyTorch's are advice for developers."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
