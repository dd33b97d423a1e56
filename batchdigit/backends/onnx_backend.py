"""Computing with ONNX Runtime, on the CPU, in a process that never imports PyTorch.

B batch, K classes, k labels reported for each image.
"""

from __future__ import annotations

import copy
import os
import platform
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.ahead import at_once, predicted_in_threads
from batchdigit.backends.outputs import check_probabilities, to_probabilities
from batchdigit.batches import Batch, Predictions
from batchdigit.errors import BatchdigitError, CheckpointError, DeviceError, remedy_for
from batchdigit.job import Job
from batchdigit.modelfiles.file import ONNX, ModelFile
from batchdigit.models.onnx_graph import INPUT, OUTPUT, onnx_model
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.models.weights import read_weights
from batchdigit.system.imports import import_onnxruntime
from batchdigit.system.machine import available_cores
from batchdigit.system.signals import signals_held
from batchdigit.system.stopwatch import Laps

BATCH_SIZE = 256  # computed in parts; larger batches are not read faster
ERRORS_ONLY = 3
KIND = "ONNX graph"
FOLDING = "ConstantFolding"


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A model that is ready to open; ``spec`` is what it takes and gives.

    ``carried`` is a mean and a deviation that the file holds beside the weights; ``output`` says
    which output of a graph has the scores.
    """

    sha256: str
    kind: str
    format: str
    spec: InputSpec
    open: Callable[[], Any]
    carried: tuple[float, float] | None = None
    key: str = ""
    unknown: tuple[str, ...] = ()
    adds_up: bool = True
    source: str = ""
    output: int = 0

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

    def load(self, file: ModelFile | None, job: Job) -> OnnxModel:
        """The model in a file that :func:`batchdigit.load_checkpoint` takes, or in an ONNX file.

        Raises CheckpointError for any other file.
        """
        assert file is not None  # noqa: S101  (PyTorch computes a module in memory)
        if file.format == ONNX:
            if job.key is not None:
                raise file.refusal("is an ONNX file, which holds one model", "leave the key out")
            return self._any_graph(file, job)
        weights = read_weights(file, job.class_name, job.key).declared(job.declaration)
        return OnnxModel(
            sha256=weights.sha256,
            kind=weights.kind,
            format=weights.format,
            spec=weights.spec,
            open=lambda: _Ours(self._session(onnx_model(weights))),
            carried=weights.carried,
            key=weights.key,
            unknown=weights.unknown,
        )

    def _any_graph(self, file: ModelFile, job: Job) -> OnnxModel:
        from batchdigit.backends.own_onnx import Graph, read_graph, try_graph

        found, spec = read_graph(file, job.declaration)
        (value,) = found.inputs
        try:
            # What a graph computes of constants alone is computed while it is opened, which no
            # signal ends. So the trial comes first, without that.
            session = self._session(file.data, [FOLDING])
            tried = try_graph(Graph(self._runtime, session, value), spec, file, len(job.labels))
            graph = Graph(self._runtime, self._session(file.data), value, tried.output)
        except DeviceError as error:  # of a graph that nobody has checked but ONNX Runtime
            raise CheckpointError(
                f"the model {file.path}: {error.problem}", "export it again"
            ) from error
        return OnnxModel(
            sha256=file.sha256,
            kind=KIND,
            format=ONNX,
            spec=replace(spec, scores=tried.scores, classes=tried.output.classes),
            open=lambda: graph,
            adds_up=tried.adds_up,
            output=int(tried.output.way[0]),
        )

    def _session(self, data: bytes, without: Sequence[str] = ()) -> Any:
        """A session with a graph, ``without`` these optimisations. Raises DeviceError."""
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        try:
            return self._runtime.InferenceSession(
                data,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(without),
            )
        except Exception as error:  # its exceptions have no common base
            raise DeviceError(
                f"ONNX Runtime cannot open the network: {error}", "make sure there is enough memory"
            ) from error

    def batch_size(self, model: OnnxModel) -> tuple[int, str]:
        """A good number of images for a batch, and where that number comes from."""
        return at_once(model.spec, BATCH_SIZE), "preset"

    def predictor(self, model: OnnxModel, k: int) -> OnnxPredictor:
        """A predictor that gives the ``k`` likeliest labels of each image."""
        return OnnxPredictor(model.open(), k, self.threads, model.spec)

    def details(self) -> dict[str, Any]:
        """What the account of a run records about this backend: JSON data."""
        return {"threads": self.threads}


class _Ours:
    """A session with a graph that this program wrote."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def options(self) -> None:
        """What :meth:`scores` takes: nothing."""

    def stop(self, _options: None) -> None:
        """Such a graph ends by itself."""

    def scores(self, pixels_BCHW: NDArray[np.float32], _options: None) -> NDArray[np.float32]:
        """Logits float32[B, K]."""
        (logits_BK,) = self._session.run([OUTPUT], {INPUT: pixels_BCHW})
        logits: NDArray[np.float32] = logits_BK
        return logits


class OnnxPredictor:
    """A graph of ONNX Runtime, ready to label batches in ``threads`` threads."""

    def __init__(self, graph: Any, k: int, threads: int, spec: InputSpec = MNIST) -> None:
        self._graph = graph
        self._spec = spec
        self._k = k
        self._threads = threads

    def taking(self, spec: InputSpec) -> OnnxPredictor:
        """The same graph, given its pixels as ``spec`` declares."""
        other = copy.copy(self)
        other._spec = spec
        return other

    def predict(self, batches: Iterable[Batch]) -> Generator[Predictions, None, None]:
        """The predictions of each batch, in order, computed ahead while the caller handles one."""
        options = self._graph.options()
        return predicted_in_threads(
            lambda batch: self._predict(batch, options),
            batches,
            self._threads,
            part=at_once(self._spec),
            stop=lambda: self._graph.stop(options),
        )

    def _predict(self, batch: Batch, options: Any) -> Predictions:
        laps = Laps()
        laps.enter("network")
        if not len(batch):
            nothing = np.empty((0, self._k))
            return Predictions.of(batch, nothing.astype(np.int64), nothing.astype(np.float32), {})
        pixels = self._spec.prepare(batch.images.astype(np.float32))
        try:
            scores_BK = self._graph.scores(pixels, options)
        except Exception as error:  # its exceptions have no common base
            raise DeviceError(
                f"ONNX Runtime cannot compute: {error}",
                "make sure there is enough memory, or set OMP_NUM_THREADS=1",
            ) from error
        probs_BK = to_probabilities(scores_BK, self._spec.scores, softmax, np.exp)
        if not np.isfinite(probs_BK).all():
            raise DeviceError(
                "the network's output is not finite: its numbers are too large for the precision",
                "use other weights",
            )
        if self._spec.scores != "logits":  # of which softmax makes some whatever they are
            check_probabilities(probs_BK)
        labels_Bk = np.argsort(-probs_BK, axis=1, kind="stable")[:, : self._k]
        probs_Bk = np.take_along_axis(probs_BK, labels_Bk, axis=1)
        laps.enter(None)
        return Predictions.of(batch, labels_Bk, probs_Bk, laps.seconds)


def softmax(logits_BK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities float32[B, K]."""
    exponentials = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
    probs: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probs
