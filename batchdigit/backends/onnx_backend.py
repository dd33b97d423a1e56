"""Computing with ONNX Runtime, on the CPU, in a process that never imports PyTorch.

B batch, K classes, k labels reported for each image.
"""

from __future__ import annotations

import copy
import os
import platform
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.ahead import predicted_in_threads
from batchdigit.batches import Batch, Predictions
from batchdigit.errors import BatchdigitError, DeviceError, remedy_for
from batchdigit.job import Computing
from batchdigit.modelfiles.file import ONNX, ModelFile
from batchdigit.models.onnx_graph import INPUT, OUTPUT, checked_onnx, onnx_model
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.models.weights import read_weights
from batchdigit.system.imports import import_onnxruntime
from batchdigit.system.machine import available_cores
from batchdigit.system.signals import signals_held
from batchdigit.system.stopwatch import Laps

BATCH_SIZE = 256  # computed in parts; larger batches are not read faster
ERRORS_ONLY = 3


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A model that is ready to open; ``spec`` is what it takes and gives.

    ``carried`` is a mean and a deviation that the file holds beside the weights.
    """

    sha256: str
    kind: str
    format: str
    spec: InputSpec
    open: Callable[[], Any]
    carried: tuple[float, float] | None = None
    key: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return self.spec.classes


class OnnxBackend:
    """ONNX Runtime with one thread for each usable core, each with a batch of its own.

    Threads that share a layer would wait for each other, and for the worker processes.

    Raises BatchdigitError if ONNX Runtime is not installed.
    """

    name = "onnxruntime"
    device = "cpu"
    on_cpu = True
    precision = "fp32"

    def __init__(self) -> None:
        try:
            with signals_held():  # one during the import of C code would look like a failure
                onnxruntime = import_onnxruntime()
        except Exception as error:  # whatever a damaged installation raises
            raise BatchdigitError(
                f"cannot load ONNX Runtime: {error}",
                remedy_for(error, "pip install onnxruntime, or --backend torch"),
            ) from error
        onnxruntime.set_default_logger_severity(ERRORS_ONLY)
        self._runtime = onnxruntime
        # People set OMP_NUM_THREADS to leave cores to others, whatever computes.
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        cores = available_cores()
        self.threads = min(cores, max(1, int(wanted))) if wanted.isdecimal() else cores

    @property
    def processor(self) -> str:
        """The kind of processor, which results depend on: its vector instructions."""
        config = np.show_config(mode="dicts")  # it leaves out what is empty
        found = config.get("SIMD Extensions", {}).get("found", [])
        return " ".join([platform.machine(), *found])

    def load(self, file: ModelFile, job: Computing) -> OnnxModel:
        """The model in a file that :func:`batchdigit.load_checkpoint` takes, or in an ONNX file.

        Raises CheckpointError for any other file.
        """
        if file.format == ONNX:
            network = checked_onnx(file, job.key)
            return OnnxModel(
                sha256=file.sha256,
                kind="ONNX graph",
                format=ONNX,
                spec=network.spec.normalised(job.mean, job.std),
                open=lambda: self._session(file.data),
            )
        weights = read_weights(file, job.class_name, job.key).normalised(job.mean, job.std)
        return OnnxModel(
            sha256=weights.sha256,
            kind=weights.kind,
            format=weights.format,
            spec=weights.spec,
            open=lambda: self._session(onnx_model(weights)),
            carried=weights.carried,
            key=weights.key,
            unknown=weights.unknown,
        )

    def _session(self, data: bytes) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        try:
            return self._runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base
            raise DeviceError(
                f"ONNX Runtime cannot open the network: {error}", "make sure there is enough memory"
            ) from error

    def batch_size(self, _model: OnnxModel) -> tuple[int, str]:
        """A good number of images for a batch, and where that number comes from."""
        return BATCH_SIZE, "preset"

    def predictor(self, model: OnnxModel, k: int) -> OnnxPredictor:
        """A predictor that gives the ``k`` likeliest labels of each image."""
        return OnnxPredictor(model.open(), k, self.threads, model.spec)

    def details(self) -> dict[str, Any]:
        """What the account of a run records about this backend: JSON data."""
        return {"threads": self.threads}


class OnnxPredictor:
    """An ONNX Runtime session, ready to label batches in ``threads`` threads."""

    def __init__(self, session: Any, k: int, threads: int, spec: InputSpec = MNIST) -> None:
        self._session = session
        self._spec = spec
        self._k = k
        self._threads = threads

    def taking(self, spec: InputSpec) -> OnnxPredictor:
        """The same session, given its pixels as ``spec`` declares."""
        other = copy.copy(self)
        other._spec = spec
        return other

    def predict(self, batches: Iterable[Batch]) -> Generator[Predictions, None, None]:
        """The predictions of each batch, in order, computed ahead while the caller handles one."""
        return predicted_in_threads(self._predict, batches, self._threads)

    def _predict(self, batch: Batch) -> Predictions:
        laps = Laps()
        laps.enter("network")
        pixels_BCHW = batch.images.astype(np.float32)
        self._spec.scale_pixels(pixels_BCHW)
        try:
            (logits_BK,) = self._session.run([OUTPUT], {INPUT: pixels_BCHW})
        except Exception as error:  # its exceptions have no common base
            raise DeviceError(
                f"ONNX Runtime cannot compute: {error}",
                "make sure there is enough memory, or set OMP_NUM_THREADS=1",
            ) from error
        probs_BK = softmax(logits_BK)
        if not np.isfinite(probs_BK).all():
            raise DeviceError(
                "the network's output is not finite: its numbers are too large for the precision",
                "use other weights",
            )
        labels_Bk = np.argsort(-probs_BK, axis=1, kind="stable")[:, : self._k]
        probs_Bk = np.take_along_axis(probs_BK, labels_Bk, axis=1)
        laps.enter(None)
        return Predictions.of(batch, labels_Bk, probs_Bk, laps.seconds)


def softmax(logits_BK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities float32[B, K]."""
    if not len(logits_BK):
        return logits_BK
    exponentials = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
    probs: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probs
