"""What a backend is: the protocols that each of them fulfils."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Protocol

from batchdigit.batches import Batch, Predictions
from batchdigit.reading.workers import OpenWorkers


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

    def predict(self, batches: Iterable[Batch]) -> Generator[Predictions, None, None]:
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
