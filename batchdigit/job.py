"""What the program is asked to do. Defaults are written here and nowhere else.

Importing this module must stay cheap: ``batchdigit --help`` reads its defaults from here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from batchdigit.errors import UsageError
from batchdigit.labels import check_labels
from batchdigit.places import STDOUT

PACKAGED_WEIGHTS = Path(__file__).parent / "weights" / "CNN.pt"
MODEL_VARIABLE = "BATCHDIGIT_MODEL"
FORMATS = ("csv", "tsv", "parquet", "jsonl")
BACKENDS = ("auto", "torch", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")
PREPROCESSING = ("auto", "exact", "fit")
START_METHODS = ("fork", "forkserver", "spawn")
MAX_BATCH_SIZE = 1_000_000
MAX_BYTES = 256 << 20
MAX_PIXELS = 100_000_000
MAX_SECONDS = 20.0
REVIEW_BELOW = 0.97  # chosen in the model card of the packaged weights


@dataclass(frozen=True)
class Tolerance:
    """How many images may fail before a finished run counts as bad: a number or a share."""

    count: int = 0
    percent: Decimal | None = None  # exact, as it was written: 32.3% of 1,000 are 323

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """``"3"`` or ``"0.5%"``; raises UsageError for anything else."""
        if match := re.fullmatch(r"(\d+)", text):
            return cls(count=int(match[1]))
        if (match := re.fullmatch(r"(\d+(?:\.\d+)?)%", text)) and Decimal(match[1]) <= 100:
            return cls(percent=Decimal(match[1]))
        raise UsageError(
            f"--max-bad {text!r} is neither a number nor a percentage", "write 3 or 0.5%"
        )

    def __str__(self) -> str:
        return str(self.count) if self.percent is None else f"{self.percent}%"

    def allows(self, failed: int, found: int) -> bool:
        """Whether ``failed`` of ``found`` images are few enough."""
        if self.percent is None:
            return failed <= self.count
        return failed * 100 <= found * self.percent


def default_model() -> Path:
    """The model file that ``BATCHDIGIT_MODEL`` in the environment names, else the packaged one."""
    return Path(os.environ.get(MODEL_VARIABLE) or PACKAGED_WEIGHTS)


@dataclass(frozen=True)
class Job:
    """Everything a run was asked to do. Defaults are written here and nowhere else.

    ``batch_size`` and ``workers`` may be None: the program chooses, as it does the ``backend`` (see
    :mod:`batchdigit.backends.choice`), the ``device`` and the ``precision`` that are ``auto``.
    ``format`` None means by the extension of ``out``, CSV where it has none. ``start_method`` None
    means the cheapest that is safe (see :mod:`batchdigit.reading.startup`). ``class_name`` is what
    the class of a whole pickled model may be called besides ``CNN``; ``labels`` are the names of
    the classes, in order, or none, and then the report has their numbers. ``max_bytes``,
    ``max_pixels`` and ``timeout`` (seconds) are limits for each file; what exceeds one becomes an
    error row.
    ``update`` takes over rows of the last report at ``out`` for files that have not changed, with
    ``retry_errors`` all but error rows. ``preprocess`` is how pixels come to 28x28: what looks like
    MNIST as it is and the rest fitted (``auto``), all as they are (``exact``) or all fitted
    (``fit``). Rows with a confidence below ``review_below`` need a person's review. ``explain``
    adds columns about the fitting, ``save_fitted`` is a folder for the images that the network got
    to see. ``fresh`` forgets what an unfinished run has done. ``wait`` is how many seconds another
    run that writes ``out`` has to end.
    """

    source: tuple[Path, ...]
    out: Path = STDOUT
    model: Path = field(default_factory=default_model)
    class_name: str | None = None
    labels: tuple[str, ...] = ()
    format: str | None = None
    topk: int = 1
    probs: bool = False
    batch_size: int | None = None
    workers: int | None = None
    start_method: str | None = None
    backend: str = "auto"
    device: str = "auto"
    precision: str = "fp32"
    preprocess: str = "auto"
    review_below: float = REVIEW_BELOW
    explain: bool = False
    save_fitted: Path | None = None
    follow_symlinks: bool = False
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    timeout: float = MAX_SECONDS
    max_bad: Tolerance = Tolerance()
    update: bool = False
    retry_errors: bool = False
    fresh: bool = False
    wait: float = 0.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):  # as on the command line
            if getattr(self, name) == "auto":
                object.__setattr__(self, name, None)
        for name in ("out", "model"):
            object.__setattr__(self, name, Path(getattr(self, name)))
        if not self.source:
            raise UsageError("no source given", "name a folder of images or some image files")
        if self.topk < 1:
            raise UsageError(f"--topk {self.topk} is less than 1", "ask for 1 label or more")
        object.__setattr__(self, "labels", check_labels(self.labels))  # frozen
        if self.update and self.out == STDOUT:
            raise UsageError("there is no last report to --update", "give --out a file")
        if self.retry_errors and not self.update:
            raise UsageError("--retry-errors says what to --update", "add --update")
        if not 0 <= self.wait < 1e9:
            raise UsageError(f"--wait {self.wait:g} is not a time in seconds", "try 3600")
        check_loading(self.batch_size, self.workers)
        _check_limits(self.reading)
        check_choice("--format", self.format, FORMATS)
        check_choice("--backend", self.backend, BACKENDS)
        check_choice("--precision", self.precision, PRECISIONS)
        check_choice("--preprocess", self.preprocess, PREPROCESSING)
        if not 0 <= self.review_below <= 1:
            raise UsageError(
                f"--review-below {self.review_below:g} is not a probability", "try 0.97"
            )
        check_choice("start_method", self.start_method, START_METHODS)
        check_device_name(self.device)
        self.report_format  # noqa: B018  (raises for a name that says no format)

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(
            self.follow_symlinks, self.max_bytes, self.max_pixels, self.timeout, self.preprocess
        )

    @property
    def report_format(self) -> tuple[str, bool]:
        """The report's format and whether it is gzipped.

        Raises UsageError when the extension of ``out`` names no known format and ``format``
        names none either.
        """
        name = self.out.name.lower()
        gzipped = name.endswith(".gz")
        suffix = Path(name.removesuffix(".gz")).suffix.removeprefix(".")
        if self.out == STDOUT:
            suffix, gzipped = "csv", False
        chosen = self.format or suffix
        if chosen not in FORMATS:
            raise UsageError(
                f"{self.out.name!r} does not say which format to write",
                f"end it in .{', .'.join(FORMATS)} or give --format",
            )
        if gzipped and chosen == "parquet":
            raise UsageError(
                "Parquet is compressed already", "leave .gz off the name of a Parquet report"
            )
        return chosen, gzipped


@dataclass(frozen=True)
class Reading:
    """Which files are read: links too or not, up to how many bytes and pixels, for how long.

    ``timeout`` is in seconds for one file; only worker processes are held to it. ``preprocess``
    is how their pixels come to 28x28 (see :mod:`batchdigit.images.preprocess`).
    """

    follow_symlinks: bool = False
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    timeout: float = MAX_SECONDS
    preprocess: str = "auto"


def check_device_name(name: str) -> None:
    """Raise UsageError unless ``name`` is ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,4})?", name):
        raise UsageError(
            f"--device {name!r} is unknown", "choose from auto, cpu, cuda, cuda:0, ..., mps"
        )


def check_loading(batch_size: int | None, workers: int | None) -> None:
    """Raise UsageError for a size of batches or a number of processes that cannot be."""
    if batch_size is not None and not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise UsageError(
            f"--batch-size {batch_size} is not between 1 and {MAX_BATCH_SIZE}", "try 256"
        )
    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers} is negative", "0 reads in the main process")


def _check_limits(reading: Reading) -> None:
    if reading.max_bytes < 1:
        raise UsageError(f"--max-bytes {reading.max_bytes} is less than 1", "try 1000000")
    if reading.max_pixels < 1:
        raise UsageError(f"--max-pixels {reading.max_pixels} is less than 1", "try 1000000")
    if not 0 < reading.timeout < 1e6:
        raise UsageError(
            f"--timeout {reading.timeout:g} is not between 0 and 1000000 seconds", "try 20"
        )


def check_choice(option: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Raise UsageError unless ``value`` is one of ``choices``, or None."""
    if value is not None and value not in choices:
        raise UsageError(f"{option} {value!r} is unknown", f"choose from {', '.join(choices)}")
