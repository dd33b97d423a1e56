"""Computing by ONNX Runtime, on the CPU, in a process that never imports PyTorch.

B batch, K classes, k labels reported for each image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.errors import BatchdigitError, DeviceError
from batchdigit.lookahead import computed_ahead
from batchdigit.machine import available_cores
from batchdigit.modelfile import ONNX_SUFFIX, ModelFile, read_model_file
from batchdigit.network import IMAGE_SIZE
from batchdigit.onnxgraph import INPUT, OUTPUT, onnx_model
from batchdigit.pool import Pool
from batchdigit.records import Batch, Predictions
from batchdigit.statedict import MAX_CLASSES
from batchdigit.storedweights import read_weights

BATCH_SIZE = 256  # from 128 to 512 all the same
ERRORS_ONLY = 3
CONVERT = "write it by `batchdigit model convert CNN.pt CNN.onnx`"


@dataclass(frozen=True)
class OnnxModel:
    """A model that is ready to be opened; ``classes`` K."""

    sha256: str
    kind: str
    format: str
    classes: int
    open: Callable[[], Any]


class OnnxBackend:
    """ONNX Runtime with one thread for each core that may be used, each with a batch of its own.

    Within a layer they would wait for each other, and for the processes that read beside them.

    Raises BatchdigitError where it is not installed.
    """

    name = "onnxruntime"
    device = "cpu"
    on_cpu = True
    precision = "fp32"
    open_workers = Pool

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise BatchdigitError(
                f"--backend onnxruntime: cannot load it ({error})",
                "pip install onnxruntime, or use --backend torch",
            ) from error
        onnxruntime.set_default_logger_severity(ERRORS_ONLY)
        self._runtime = onnxruntime
        # OMP_NUM_THREADS is what people set to leave cores to others, whatever computes.
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        cores = available_cores()
        self.threads = min(cores, max(1, int(wanted))) if wanted.isdecimal() else cores

    @property
    def processor(self) -> str:
        """The kind of processor, of which results depend: the vector instructions it has."""
        found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
        return " ".join(found)

    def load(self, path: Path, class_name: str | None) -> OnnxModel:
        """The model in a file that :func:`batchdigit.load_checkpoint` takes, or in a ``.onnx``.

        Raises CheckpointError for any other.
        """
        file = read_model_file(path)
        if path.suffix.lower() == ONNX_SUFFIX:
            return self._load_onnx(file)
        weights = read_weights(file, class_name)
        return OnnxModel(
            weights.sha256,
            weights.kind,
            weights.format,
            weights.classes,
            lambda: self._session(onnx_model(weights)),
        )

    def _load_onnx(self, file: ModelFile) -> OnnxModel:
        try:
            session = self._session(file.data)
        except Exception as error:  # its exceptions have no base of their own
            raise file.refusal("cannot be read by ONNX Runtime", CONVERT) from error
        return OnnxModel(
            file.sha256, "ONNX graph", "ONNX", _checked_classes(file, session), lambda: session
        )

    def _session(self, data: bytes) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        return self._runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def batch_size(self, _model: OnnxModel) -> tuple[int, str]:
        """A good number of images in a batch, and where it comes from."""
        return BATCH_SIZE, "preset"

    def predictor(self, model: OnnxModel, k: int) -> OnnxPredictor:
        """What predicts batches."""
        return OnnxPredictor(model.open(), k, self.threads)

    def details(self) -> dict[str, Any]:
        """For the account of a run: JSON data."""
        return {"threads": self.threads}


class OnnxPredictor:
    """A session of ONNX Runtime, ready to label batches, ``threads`` of them at a time."""

    def __init__(self, session: Any, k: int, threads: int) -> None:
        self._session = session
        self._k = k
        self._threads = threads

    def predict(self, batches: Iterable[Batch]) -> Iterator[Predictions]:
        """The predictions of each batch, in order; some are computed while one is handled."""
        return computed_ahead(self._predict, batches, self._threads)

    def _predict(self, batch: Batch) -> Predictions:
        parts = range(0, max(len(batch), 1), BATCH_SIZE)  # which bounds the memory
        logits_BK = np.concatenate(
            [self._logits(batch.images[start : start + BATCH_SIZE]) for start in parts]
        )
        probs_BK = softmax(logits_BK)
        if not np.isfinite(probs_BK).all():
            raise DeviceError(
                "the network's output is not finite: its numbers outgrew the precision",
                "run again with other weights",
            )
        labels_Bk = np.argsort(-probs_BK, axis=1, kind="stable")[:, : self._k]
        return Predictions(
            indices=batch.indices,
            labels=labels_Bk,
            probs=np.take_along_axis(probs_BK, labels_Bk, axis=1),
            treatments=batch.treatments,
            ink=batch.ink,
            failures=batch.failures,
        )

    def _logits(self, images_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels_BCHW = images_BCHW.astype(np.float32)
        pixels_BCHW /= 255
        logits_BK: NDArray[np.float32]
        (logits_BK,) = self._session.run([OUTPUT], {INPUT: pixels_BCHW})
        return logits_BK


def softmax(logits_BK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities float32[B, K]."""
    if not len(logits_BK):
        return logits_BK
    exponentials = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
    probs: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probs


def _checked_classes(file: ModelFile, session: Any) -> int:
    """The number of classes of a file that ``batchdigit model convert`` wrote.

    Any graph would run, and its output be taken for logits, so that one with a softmax at its end
    would give wrong confidences.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    classes = metadata.get("classes", "")
    known = classes.isdecimal() and 1 <= int(classes) <= MAX_CLASSES
    ends = [
        (end.name, end.type, end.shape) for end in (*session.get_inputs(), *session.get_outputs())
    ]
    expected = [
        (INPUT, "tensor(float)", ["batch", 1, IMAGE_SIZE, IMAGE_SIZE]),
        (OUTPUT, "tensor(float)", ["batch", int(classes) if known else 0]),
    ]
    if "source_sha256" not in metadata or ends != expected:
        raise file.refusal("is an ONNX file that batchdigit did not write", CONVERT)
    return int(classes)
