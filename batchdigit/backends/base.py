"""What a backend is: the protocols that it fulfils."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Protocol

from batchdigit.batches import Batch, Predictions
from batchdigit.modelfiles.file import ModelFile


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
        """The format of the file."""


class Predictor(Protocol):
    """A model, ready to label batches."""

    def predict(self, batches: Iterable[Batch]) -> Generator[Predictions, None, None]:
        """The predictions of each batch, in order."""


class Backend(Protocol):
    """A way to compute on one device.

    ``device`` and ``processor`` say what it computes on, ``precision`` with which type of number. A
    precision that was ``auto`` is chosen when the model is loaded.
    """

    name: str
    device: str
    on_cpu: bool
    precision: str

    @property
    def processor(self) -> str:
        """The kind of processor, which results depend on."""

    def load(self, file: ModelFile, class_name: str | None) -> Any:
        """The model in a file; raises CheckpointError."""

    def batch_size(self, model: Any, /) -> tuple[int, str]:
        """A good number of images for a batch, and where that number comes from."""

    def predictor(self, model: Any, k: int) -> Predictor:
        """A predictor that gives the ``k`` likeliest labels of each image."""

    def details(self) -> dict[str, Any]:
        """What the account of a run records about this backend: JSON data."""
