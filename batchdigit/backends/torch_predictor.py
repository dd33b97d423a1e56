"""Running a network: from batches of pixels to labels and probabilities.

B batch, K classes, k labels reported for each image; images are BCHW.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import queue
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from batchdigit.backends.ahead import MAX_PART, at_once, predicted_in_threads
from batchdigit.backends.outputs import check_probabilities, scores_in, to_probabilities
from batchdigit.backends.own_model import ANYTHING, OwnModel
from batchdigit.batches import Batch, Predictions
from batchdigit.errors import DeviceError
from batchdigit.models.cnn import CNN, fold_batchnorm
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.system.shared_setting import SharedSetting
from batchdigit.system.stopwatch import Laps, add_up

MAX_PART_ON_MPS = 4096
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """A network on one device, ready to label batches.

    The model is copied. The CNN's BatchNorm is folded into its convolutions, and on a CPU it is
    laid out channels-last; both together take about 0.6 of the plain model's time there. Of a
    network of the user's own, which may keep things between its layers, each thread has a copy.
    ``precision`` fp32 means IEEE single precision everywhere: TF32 is off while this runs.
    Probabilities are always computed in fp32.

    A batch larger than ``largest_batch`` is computed in parts of that size. When a CUDA device runs
    out of memory, that size is halved and the work repeated.
    """

    def __init__(
        self,
        model: CNN | OwnModel,
        device: torch.device,
        *,
        spec: InputSpec = MNIST,
        precision: str = "fp32",
        k: int = 1,
    ) -> None:
        self.device = device
        self.k = k
        self._spec = spec
        self.largest_batch: int | None = None
        # Only CUDA has an event to wait for below; elsewhere a copy must complete at once.
        self._asynchronous = device.type == "cuda"
        self._dtype = _DTYPES[precision]
        try:
            self._network: _Cnn | _Own
            if isinstance(model, OwnModel):
                self._network = _Own(model, device, self._dtype)
            else:
                self._network = _Cnn(model, device, self._dtype)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{device} has no memory left for the model",
                "free its memory, or choose --device cpu",
            ) from error

    def taking(self, spec: InputSpec) -> Predictor:
        """The same model, given its pixels as ``spec`` declares."""
        other = copy.copy(self)
        other._spec = spec
        return other

    def predict(self, batches: Iterable[Batch]) -> Generator[Predictions, None, None]:
        """The predictions of each batch, in order.

        Works ahead: the next ones are computed while the caller handles one.
        Raises DeviceError if not even a single image fits into the device's memory.
        """
        if not self._asynchronous:
            yield from self._predict_in_threads(batches)
            return
        ahead: _InFlight | None = None
        for batch in batches:
            launched = self._launch(batch)
            if ahead is not None:
                yield ahead.land()
            ahead = launched
        if ahead is not None:
            yield ahead.land()

    def _predict_in_threads(self, batches: Iterable[Batch]) -> Iterator[Predictions]:
        """On a CPU each thread has a batch of its own.

        Threads that share a layer would wait for each other, and for the worker processes.
        """
        threads = torch.get_num_threads()
        on_cpu = self.device.type == "cpu"
        try:
            yield from predicted_in_threads(
                lambda batch: self._launch(batch).land(),
                batches,
                threads if on_cpu else 1,
                part=at_once(self._spec, MAX_PART if on_cpu else MAX_PART_ON_MPS),
                prepare=_compute_in_this_thread_alone,
            )
        finally:
            torch.set_num_threads(threads)  # for threads that others start

    def _launch(self, batch: Batch) -> _InFlight:
        if not len(batch):
            return _InFlight(batch, torch.empty(0, 2 * self.k), Laps(), None)
        images_BCHW = torch.from_numpy(batch.images)
        laps = _DeviceLaps(self.device) if self._asynchronous else Laps()
        if self._asynchronous:
            # A GPU copies from page-locked memory by itself. The DataLoader does not do this here,
            # because its thread would wait for ever for the rest of a message if a worker died
            # while sending it.
            images_BCHW = images_BCHW.pin_memory()
        with torch.inference_mode(), _IEEE_FP32:
            # Labels come back in one copy with the probabilities, as floats (exact to 2**24).
            result_B2k = self._top_k(images_BCHW, laps).to("cpu", non_blocking=self._asynchronous)
            laps.enter(None)
            landed = None
            if self._asynchronous:
                landed = torch.cuda.Event()
                landed.record(torch.cuda.current_stream(self.device))
        return _InFlight(batch, result_B2k, laps, landed, self._spec.scores)

    def _top_k(self, images: torch.Tensor, laps: _AnyLaps) -> torch.Tensor:
        """float32[B, 2k] on the device: k probabilities, then their k labels."""
        while True:
            size = self.largest_batch or max(len(images), 1)
            # Retried outside ``except``, whose traceback would keep the tensors alive.
            with contextlib.suppress(torch.OutOfMemoryError):
                parts = images.split(size)
                return torch.cat([self._top_k_of_part(part, laps) for part in parts])
            if size == 1:
                raise DeviceError(
                    f"{self.device} has no memory left for a single image",
                    "free its memory, or choose --device cpu",
                )
            self.largest_batch = min(size, len(images)) // 2
            torch.cuda.empty_cache()

    def _top_k_of_part(self, images_BCHW: torch.Tensor, laps: _AnyLaps) -> torch.Tensor:
        if self.device.type != "cpu":
            laps.enter("transfer")
            images_BCHW = images_BCHW.to(self.device, non_blocking=self._asynchronous)
        laps.enter("network")
        pixels = self._spec.prepare(images_BCHW.to(self._dtype))
        scores_BK = self._network.scores(pixels, len(images_BCHW)).float()
        probs_BK = probabilities_of(scores_BK, self._spec.scores)
        probs_Bk, labels_Bk = probs_BK.topk(self.k, dim=1)
        return torch.cat([probs_Bk, labels_Bk.float()], dim=1)


class _Cnn:
    """The packaged kind of network on a device."""

    def __init__(self, model: CNN, device: torch.device, dtype: torch.dtype) -> None:
        self._layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self._model = fold_batchnorm(copy.deepcopy(model).eval()).to(device, dtype)
        self._model.to(memory_format=self._layout)

    def scores(self, pixels_BCHW: torch.Tensor, _count: int) -> torch.Tensor:
        """Logits [B, K]."""
        logits: torch.Tensor = self._model(pixels_BCHW.contiguous(memory_format=self._layout))
        return logits


class _Own:
    """A network of the user's own on a device."""

    def __init__(self, model: OwnModel, device: torch.device, dtype: torch.dtype) -> None:
        self._own = model
        self._module = copy.deepcopy(model.module).to(device, dtype)
        self._idle: queue.SimpleQueue[torch.nn.Module] = queue.SimpleQueue()

    def scores(self, pixels: torch.Tensor, count: int) -> torch.Tensor:
        """The scores [B, K] of ``count`` images. Raises CheckpointError if the network fails."""
        try:
            module = self._idle.get_nowait()
        except queue.Empty:  # as many threads compute as there are copies
            module = copy.deepcopy(self._module)
        try:
            outputs = module(pixels.contiguous())
            scores: torch.Tensor = scores_in(outputs, self._own.output, count)
        except torch.OutOfMemoryError:
            raise
        except ANYTHING as error:
            raise self._own.refusal(error) from error
        self._idle.put(module)
        return scores


def probabilities_of(scores_BK: torch.Tensor, scores: str) -> torch.Tensor:
    """Probabilities [B, K] of scores of that kind (see :class:`InputSpec`)."""
    softmax = partial(torch.softmax, dim=1)
    probs: torch.Tensor = to_probabilities(scores_BK, scores, softmax, torch.exp)
    return probs


@dataclass(frozen=True)
class _InFlight:
    """A batch whose result is on its way to main memory."""

    batch: Batch
    result_B2k: torch.Tensor
    laps: _AnyLaps
    landed: torch.cuda.Event | None
    scores: str = "logits"

    def land(self) -> Predictions:
        if self.landed is not None:
            self.landed.synchronize()
        if not bool(self.result_B2k.isfinite().all()):
            raise DeviceError(
                "the network's output is not finite: its numbers are too large for the precision",
                "use --precision fp32 if it was lower, otherwise other weights",
            )
        k = self.result_B2k.shape[1] // 2
        probs_Bk, labels_Bk = self.result_B2k.split(k, dim=1)
        if self.scores != "logits":  # of which softmax makes probabilities whatever they are
            check_probabilities(probs_Bk.numpy())
        return Predictions.of(
            self.batch,
            labels_Bk.to(torch.int64).numpy(),
            probs_Bk.contiguous().numpy(),
            self.laps.seconds,
        )


class _DeviceLaps:
    """Like :class:`Laps`, for a CUDA device; ask for ``seconds`` only once the device is done.

    Kernels run some time after they are launched, so only events between them tell when.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._marks: list[tuple[str | None, torch.cuda.Event]] = []

    def enter(self, stage: str | None) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        self._marks.append((stage, event))

    @property
    def seconds(self) -> dict[str, float]:
        return add_up(
            {stage: start.elapsed_time(end) / 1000}
            for (stage, start), (_, end) in itertools.pairwise(self._marks)
            if stage is not None
        )


_AnyLaps = Laps | _DeviceLaps


def _compute_in_this_thread_alone() -> None:
    torch.get_num_threads()  # a thread's first call gives it the number that all threads have
    torch.set_num_threads(1)


def _precision_knobs() -> tuple[Any, ...]:
    return torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]


def _read_precision() -> list[str]:
    return [knob.fp32_precision for knob in _precision_knobs()]


def _write_precision(values: list[str]) -> None:
    for knob, value in zip(_precision_knobs(), values, strict=True):
        knob.fp32_precision = value


# IEEE fp32 on CUDA, where torch would round the inputs of convolutions to TF32.
_IEEE_FP32 = SharedSetting(_read_precision, _write_precision, ["ieee", "ieee"])
