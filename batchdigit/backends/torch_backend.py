"""Computing with PyTorch, on a CPU or a GPU."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from batchdigit.backends.ahead import at_once
from batchdigit.backends.own_model import OwnModel, own_model
from batchdigit.backends.torch_device import choose_device, describe_device
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.backends.tuning import best_batch_size, remembered
from batchdigit.batches import Batch
from batchdigit.errors import BatchdigitError, CheckpointError
from batchdigit.job import Job
from batchdigit.modelfiles.file import ModelFile
from batchdigit.models.checkpoint import Checkpoint, build_model
from batchdigit.models.digits import packaged_digits
from batchdigit.models.placing import placed_all
from batchdigit.models.weights import read_weights
from batchdigit.system.machine import available_cores, has_bfloat16_units

CPU_BATCH_SIZE = 256  # computed in parts
MPS_BATCH_SIZE = 2048
MAX_FLIPS = 1  # of labels of the thousand digits, by a precision that ``auto`` may choose
MAX_SHARE_OF_MEMORY = 0.5  # of a GPU's free memory, because others may want some
SECONDS_TO_MEASURE = 0.2


TorchModel = Checkpoint | OwnModel


class TorchBackend:
    """PyTorch on the device called ``device``, computing in ``precision``.

    Raises DeviceError for a missing device, UsageError for a name that is not a device's.
    """

    name = "torch"

    def __init__(self, device: str, precision: str) -> None:
        self._device = choose_device(device)
        self.device = describe_device(self._device)
        self.on_cpu = self._device.type == "cpu"
        self.precision = precision
        self._flips: int | None = None
        # PyTorch counts the cores of the machine, even in a container that may use only some of
        # them. Threads that outnumber the cores wait for each other.
        if torch.get_num_threads() > available_cores():
            torch.set_num_threads(available_cores())
        self.threads = torch.get_num_threads()

    @property
    def processor(self) -> str:
        """The kind of processor, which results depend on."""
        return str(torch.backends.cpu.get_cpu_capability())

    def load(self, file: ModelFile | None, job: Job) -> TorchModel:
        """The model in a file; see :func:`batchdigit.load_checkpoint`. Or the job's own network."""
        checkpoint: TorchModel
        if file is None or job.network is not None:
            checkpoint = own_model(file, job)
        else:
            weights = read_weights(file, job.class_name, job.key).declared(job.declaration)
            checkpoint = Checkpoint(build_model(weights), weights)
        if self.precision == "auto":
            self.precision, self._flips = self._choose_precision(checkpoint)
        if isinstance(checkpoint, OwnModel):
            self._try_here(checkpoint)
        return checkpoint

    def _try_here(self, model: OwnModel) -> None:
        """Raise CheckpointError if a network, which runs on the CPU in fp32, does not run here."""
        if self.on_cpu and self.precision == "fp32":
            return
        batch = Batch.of(placed_all(packaged_digits()[:2], model.spec))
        try:
            list(self._predictor(model, self.precision, 1).predict([batch]))
        except CheckpointError as error:
            where = f"in {self.precision}" if self.on_cpu else f"on {self.device}"
            raise CheckpointError(
                f"the network {model.name} runs on the CPU in fp32, but not {where}: "
                f"{error.problem}",
                "leave --precision off" if self.on_cpu else "add --device cpu",
            ) from error

    def _choose_precision(self, checkpoint: TorchModel) -> tuple[str, int | None]:
        """The lowest precision that is fast here and keeps the labels, and how many it flips."""
        lower = "fp16" if self._device.type == "cuda" else "bf16"
        if self._device.type == "mps" or (self.on_cpu and not has_bfloat16_units()):
            return "fp32", None
        flips, _ = remembered(
            self._key("label flips", lower, checkpoint),
            lambda: self._label_flips(checkpoint, lower),
        )
        return (lower if flips <= MAX_FLIPS else "fp32"), flips

    def _label_flips(self, checkpoint: TorchModel, precision: str) -> int:
        """How many of the thousand packaged digits get another label than in fp32."""
        batch = Batch.of(placed_all(packaged_digits(), checkpoint.spec))
        try:
            exact, other = (
                next(self._predictor(checkpoint, name, 1).predict([batch]))
                for name in ("fp32", precision)
            )
        except BatchdigitError:  # a network may compute in one precision alone
            return len(batch)
        return int(np.count_nonzero(exact.labels != other.labels))

    def batch_size(self, checkpoint: TorchModel) -> tuple[int, str]:
        """A good number of images for a batch, and where that number comes from.

        On a CUDA device it is measured, once for each device, model and precision.
        """
        if self._device.type != "cuda":
            most = CPU_BATCH_SIZE if self.on_cpu else MPS_BATCH_SIZE
            return at_once(checkpoint.spec, most), "preset"
        size, how = remembered(
            self._key("batch size", self.precision, checkpoint),
            lambda: best_batch_size(lambda size: self._rate(checkpoint, size)),
        )
        return max(size, 1), how

    def _rate(self, checkpoint: TorchModel, size: int) -> float | None:
        """Images that the device predicts in a second; None if that takes too much memory."""
        predictor = self._predictor(checkpoint, self.precision, 2)
        batch = Batch.of(np.zeros((size, *checkpoint.spec.shape), np.uint8))
        free, _ = torch.cuda.mem_get_info(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        list(predictor.predict([batch]))  # the first one takes longer
        needed = torch.cuda.max_memory_allocated(self._device)
        if predictor.largest_batch is not None or needed > MAX_SHARE_OF_MEMORY * free:
            return None
        count = 0
        start = time.perf_counter()
        while time.perf_counter() - start < SECONDS_TO_MEASURE:
            list(predictor.predict([batch] * 3))
            count += 3 * size
        return count / (time.perf_counter() - start)

    def _key(self, what: str, precision: str, checkpoint: TorchModel) -> str:
        hardware = f"{self.device} {self.processor}"
        version = str(torch.__version__)
        return " | ".join(
            [what, hardware, precision, version, checkpoint.identity, checkpoint.spec.text]
        )

    def predictor(self, checkpoint: TorchModel, k: int) -> Predictor:
        """A predictor that gives the ``k`` likeliest labels of each image."""
        return self._predictor(checkpoint, self.precision, k)

    def _predictor(self, checkpoint: TorchModel, precision: str, k: int) -> Predictor:
        model = checkpoint.model if isinstance(checkpoint, Checkpoint) else checkpoint
        return Predictor(model, self._device, spec=checkpoint.spec, precision=precision, k=k)

    def details(self) -> dict[str, Any]:
        """What the account of a run records about this backend: JSON data."""
        details: dict[str, Any] = {"threads": self.threads}
        if self._flips is not None:
            details["label_flips_in_1000"] = self._flips
        return details
