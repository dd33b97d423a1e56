"""What computes: PyTorch or ONNX Runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from batchdigit.errors import UsageError
from batchdigit.jobs import Job
from batchdigit.loading import loading
from batchdigit.machine import has_bfloat16_units, may_have_gpu
from batchdigit.modelfile import ONNX_SUFFIX
from batchdigit.records import Batch, Predictions
from batchdigit.workers import OpenWorkers


class Model(Protocol):
    """A model that a backend has loaded."""

    @property
    def classes(self) -> int:
        """Number of classes K."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""

    @property
    def kind(self) -> str:
        """How the weights were saved."""

    @property
    def format(self) -> str:
        """In which file format."""


class Predictor(Protocol):
    """A model, ready to label batches."""

    def predict(self, batches: Iterable[Batch]) -> Iterator[Predictions]:
        """The predictions of each batch, in order."""


class Backend(Protocol):
    """A way to compute, on one device.

    ``device`` and ``processor`` say on what, ``precision`` in what (chosen by then, where it was
    ``auto`` and a model is loaded), ``open_workers`` which processes read for it.
    """

    name: str
    device: str
    on_cpu: bool
    precision: str

    @property
    def processor(self) -> str:
        """The kind of processor, of which results depend."""

    @property
    def open_workers(self) -> OpenWorkers:
        """What starts processes that read."""

    def load(self, path: Path, class_name: str | None) -> Any:
        """The model in a file; raises CheckpointError."""

    def batch_size(self, model: Any, /) -> tuple[int, str]:
        """A good number of images in a batch, and where it comes from."""

    def predictor(self, model: Any, k: int) -> Predictor:
        """What predicts batches with the k likeliest labels."""

    def details(self) -> dict[str, Any]:
        """For the account of a run: JSON data."""


def open_backend(job: Job) -> Backend:
    """What computes ``job``; its packages are imported here, those of others are not.

    Raises UsageError for a combination that makes no sense, DeviceError for a device that is not
    there, BatchdigitError for a package that is missing.
    """
    if choose_backend(job) == "onnxruntime":
        from batchdigit.onnxbackend import OnnxBackend

        return OnnxBackend()
    with loading("PyTorch"):
        from batchdigit.torchbackend import TorchBackend  # it imports torch, which takes a second

    return TorchBackend(job.device, job.precision)


def choose_backend(job: Job) -> str:
    """``torch`` or ``onnxruntime``.

    ``auto`` takes ONNX Runtime where it is installed and can do the job: on a CPU it is the faster
    one, and a small job is done before PyTorch is even imported. GPUs, and precisions below single,
    are PyTorch's.
    """
    is_graph = job.model.suffix.lower() == ONNX_SUFFIX
    # bfloat16 units double the speed of what they compute.
    lower = job.precision not in ("fp32", "auto") or (
        job.precision == "auto" and has_bfloat16_units()
    )
    device = job.device not in ("auto", "cpu")
    if job.backend == "onnxruntime" or (job.backend == "auto" and is_graph):
        if device:
            raise UsageError(
                f"ONNX Runtime computes on the CPU here, not on {job.device}",
                "give --backend torch a model that PyTorch can read"
                if is_graph
                else "use --backend torch",
            )
        if job.precision not in ("fp32", "auto"):
            raise UsageError(
                f"ONNX Runtime computes in fp32 here, not in {job.precision}", "use --backend torch"
            )
        return "onnxruntime"
    if job.backend == "torch" or lower or device:
        return "torch"
    if job.device == "auto" and may_have_gpu():
        return "torch"
    return "onnxruntime" if importlib.util.find_spec("onnxruntime") else "torch"
