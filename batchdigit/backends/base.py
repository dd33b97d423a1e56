"""What a backend is: the protocols that it fulfils."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Protocol

from batchdigit.batches import Batch, Predictions
from batchdigit.job import Job
from batchdigit.modelfiles.file import ModelFile
from batchdigit.models.spec import InputSpec


class Model(Protocol):
    """A model that a backend has loaded."""

    @property
    def spec(self) -> InputSpec:
        """What the model takes and gives."""

    @property
    def classes(self) -> int:
        """Number of classes K."""

    @property
    def carried(self) -> tuple[float, float] | None:
        """A mean and a deviation that the file holds beside the weights; nothing applies them."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""

    @property
    def key(self) -> str:
        """Which of several models in the file it is; empty where there is no choice."""

    @property
    def source(self) -> str:
        """SHA-256 of the code of a network of the user's own; empty for any other."""

    @property
    def adds_up(self) -> bool:
        """Whether the probabilities of an image add up to 1."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """What the file names beside the weights that is not known as data."""

    @property
    def kind(self) -> str:
        """How the weights were saved."""

    @property
    def format(self) -> str:
        """The format of the file."""


class Predictor(Protocol):
    """A model, ready to label batches."""

    def taking(self, spec: InputSpec) -> Predictor:
        """The same model, given its pixels as ``spec`` declares; of the same size and channels."""

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

    def load(self, file: ModelFile | None, job: Job) -> Any:
        """The model in a file, read as ``job`` says, or the job's own; raises CheckpointError."""

    def batch_size(self, model: Any, /) -> tuple[int, str]:
        """A good number of images for a batch, and where that number comes from."""

    def predictor(self, model: Any, k: int) -> Predictor:
        """A predictor that gives the ``k`` likeliest labels of each image."""

    def details(self) -> dict[str, Any]:
        """What the account of a run records about this backend: JSON data."""
