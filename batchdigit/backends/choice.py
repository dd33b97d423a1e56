"""Which backend computes: PyTorch or ONNX Runtime."""

from __future__ import annotations

import logging

from batchdigit.backends.base import Backend
from batchdigit.errors import BatchdigitError, UsageError
from batchdigit.job import Computing
from batchdigit.modelfiles.file import ONNX, ModelFile
from batchdigit.system.events import about
from batchdigit.system.imports import is_installed, loading
from batchdigit.system.machine import has_bfloat16_units, may_have_gpu

_LOG = logging.getLogger(__name__)


def open_backend(job: Computing, file: ModelFile | None) -> Backend:
    """The backend that computes ``job`` with the model in ``file``; imports only its packages.

    There is no file for a model in memory.

    Raises UsageError for a combination that makes no sense, DeviceError for a missing device,
    BatchdigitError for a missing package.
    """
    chosen, may_be_torch = choose_backend(job, is_onnx=file is not None and file.format == ONNX)
    if chosen == "onnxruntime":
        from batchdigit.backends.onnx_backend import OnnxBackend

        try:
            return OnnxBackend()
        except BatchdigitError as error:
            if not may_be_torch:
                raise
            _LOG.warning(
                "%s; PyTorch computes instead", error.problem, extra=about("backend_changed")
            )
    with loading("PyTorch", "torch"):
        from batchdigit.backends.torch_backend import (
            TorchBackend,  # it imports torch, which takes a second
        )

    return TorchBackend(job.device, job.precision)


def choose_backend(job: Computing, *, is_onnx: bool) -> tuple[str, bool]:
    """``torch`` or ``onnxruntime``, and whether PyTorch would do as well.

    ``is_onnx`` says whether the model is an ONNX file.

    ``auto`` chooses ONNX Runtime where it is installed and can do the job: it is faster on a CPU,
    and finishes a small job before PyTorch would even be imported. Only PyTorch computes on GPUs
    and in precisions below fp32.
    """
    wants_gpu = job.device not in ("auto", "cpu")
    wants_less = job.precision not in ("fp32", "auto")
    if job.network is not None or job.module is not None:
        if job.backend == "onnxruntime":
            raise UsageError(
                "PyTorch computes a network of your own, and not ONNX Runtime",
                "leave --backend off, or write it as ONNX by `batchdigit model convert`",
            )
        return "torch", True
    if is_onnx:
        if job.backend == "torch" or wants_gpu or wants_less:
            raise UsageError(
                f"{job.model} is an ONNX file, which ONNX Runtime computes on the CPU and in fp32",
                "leave out --backend, --device and --precision, or give the file it was made from",
            )
        return "onnxruntime", False
    if job.backend == "onnxruntime":
        if wants_gpu or wants_less:
            what = f"on {job.device}" if wants_gpu else f"in {job.precision}"
            raise UsageError(
                f"here ONNX Runtime computes on the CPU and in fp32 only, not {what}",
                "use --backend torch",
            )
        return "onnxruntime", False
    if job.backend == "torch" or wants_gpu or wants_less or not is_installed("onnxruntime"):
        return "torch", True
    torch_is_better = (job.device == "auto" and may_have_gpu()) or (
        job.precision == "auto" and has_bfloat16_units()  # which double the speed
    )
    return "torch" if torch_is_better and is_installed("torch") else "onnxruntime", True
