"""What a training run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchdigit.errors import UsageError
from batchdigit.job import check_batch_size, check_choice, check_device_name
from batchdigit.modelfiles.declaration import PREPROCESSING


@dataclass(frozen=True)
class TrainJob:
    """Everything that a training run was asked to do. Defaults are written here and nowhere else.

    ``force`` replaces files at ``out`` that no training wrote, or that are read-only.
    ``learning_rate`` is the peak of a one-cycle schedule. ``average_decay`` is the decay per step
    of the exponential moving average of the weights, which becomes the model. ``variants`` is how
    many pictures of each training image, in other hands and on other paper, take turns beside it;
    0 trains on the images alone. ``preprocess`` is how the images of a labelled folder are brought
    to 28x28, and should be what the model will be run with. ``start`` is a model file to begin with
    instead of random weights; ``class_name`` is the name of its class, if it is a whole model and
    that is not ``CNN``, and ``key`` says which of several models in it.

    Raises UsageError for a value that makes no sense.
    """

    data: Path
    out: Path
    force: bool = False
    download: bool = False
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    average_decay: float = 0.999
    augment: bool = True
    variants: int = 3
    preprocess: str = "auto"
    start: Path | None = None
    class_name: str | None = None
    key: str | None = None
    seed: int = 0
    device: str = "auto"
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"--epochs {self.epochs} is less than 1", "train for 1 or more")
        if not self.learning_rate > 0:
            raise UsageError(f"--learning-rate {self.learning_rate:g} is not above 0", "try 3e-3")
        if not 0 <= self.variants <= 100:
            raise UsageError(f"--variants {self.variants} is not between 0 and 100", "try 3")
        check_choice("--preprocess", self.preprocess, PREPROCESSING)
        if self.variants and self.preprocess == "exact":
            raise UsageError(
                "variants are fitted, but --preprocess exact fits no images", "add --variants 0"
            )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed {self.seed} is out of range", "take 0 or a positive number")
        check_batch_size("--batch-size", self.batch_size)
        check_device_name("--device", self.device)
