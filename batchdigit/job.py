"""What a run is asked to do. Its defaults are written here and nowhere else.

Importing this module must stay cheap, because ``batchdigit --help`` reads the defaults from here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchdigit.errors import UsageError
from batchdigit.labels import check_labels
from batchdigit.modelfiles.declaration import PREPROCESSING, Declaration, by_options, declaring
from batchdigit.places import STDOUT
from batchdigit.system.given import settle_types
from batchdigit.system.paths import as_path, path_text
from batchdigit.system.tolerance import Tolerance

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from batchdigit.api import JobOptions
    from batchdigit.system.paths import AnyPath, Sources

PACKAGED_WEIGHTS = Path(__file__).parent / "weights" / "CNN.pt"
MODEL_VARIABLE = "BATCHDIGIT_MODEL"
BACKENDS = ("auto", "torch", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "fp16", "auto")
START_METHODS = ("fork", "forkserver", "spawn")
MAX_BATCH_SIZE = 1_000_000
MAX_WORKERS = 1_000
MAX_BYTES = 256 << 20
MAX_PIXELS = 100_000_000
TIMEOUT = 20.0  # seconds
REVIEW_BELOW = 0.97  # chosen in the model card of the packaged weights
MAX_GONE = Tolerance(percent=Decimal(50))


def default_model() -> Path:
    """The model file that ``BATCHDIGIT_MODEL`` in the environment names, else the packaged one."""
    return Path(os.environ.get(MODEL_VARIABLE) or PACKAGED_WEIGHTS)


def is_packaged(path: Path) -> bool:
    """Whether a model file is the one in the package, by whatever path."""
    return os.path.realpath(path) == os.path.realpath(PACKAGED_WEIGHTS)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are read.

    ``max_bytes``, ``max_pixels`` and ``timeout`` (seconds) are limits for each image; an image that
    exceeds one becomes an error row. The timeout applies to worker processes only. ``preprocess``
    says which images are fitted to what networks of digits know: those that do not look like
    MNIST's (``auto``), none (``exact``) or all (``fit``); see :mod:`batchdigit.images.preprocess`.
    If it is None, the model decides: ``auto`` for one of ten digits, ``exact`` for any other. With
    ``allow_empty`` there need not be any image; then the report has no rows. If
    ``workers`` is None, the program chooses how many worker processes read. If ``start_method`` is
    None, it chooses the cheapest that is safe (see :mod:`batchdigit.reading.startup`).
    """

    preprocess: str | None = None
    follow_symlinks: bool = False
    allow_empty: bool = False
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    timeout: float = TIMEOUT
    workers: int | None = None
    start_method: str | None = None

    def __post_init__(self) -> None:
        _auto_is_none(self, "workers")
        settle_types(self, Reading)
        check_choice("--preprocess", self.preprocess, PREPROCESSING)
        check_choice("start_method", self.start_method, START_METHODS)
        if self.max_bytes < 1:
            raise UsageError(f"--max-bytes {self.max_bytes} is less than 1", "try 1000000")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels {self.max_pixels} is less than 1", "try 1000000")
        if not 0 < self.timeout < 1e6:
            raise UsageError(
                f"--timeout {self.timeout:g} is not above 0 and below 1000000 seconds",
                "to wait longer for each file, try 86400, which is a day",
            )
        if self.workers is not None and not 0 <= self.workers <= MAX_WORKERS:
            raise UsageError(
                f"--workers {self.workers} is not between 0 and {MAX_WORKERS}",
                "0 reads in the main process",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Computing:
    """Which model computes, by which backend, and on which device.

    ``model`` is a file, or a ``torch.nn.Module`` in memory, which is copied; then ``module`` holds
    it, and ``model`` its name. ``class_name`` is a name that the class of a whole pickled model may
    have instead of ``CNN``. ``key`` says which of several models in the file is meant
    (``ema.model``). ``network`` is where the code of the user's own network is, as
    ``FILE.py:CLASS`` or ``package.module:CLASS``, and ``network_args`` are the arguments for it.
    If ``backend``, ``device`` or ``precision`` is ``auto``, or ``batch_size`` is None, the program
    chooses (see :mod:`batchdigit.backends.choice` and :mod:`batchdigit.auto`).

    ``input_size``, ``channels``, ``range``, ``mean``, ``std``, ``expects``, ``layout``,
    ``transpose``, ``place`` and ``scores`` declare what the network takes and gives, in the words
    of :class:`batchdigit.InputSpec`. What is None is as the model's file says, or what stands
    beside it, or else as the packaged model has it. With ``model_check``, a model of ten digits
    that reads known digits badly is warned of (see :mod:`batchdigit.backends.known_digits`).
    """

    model: Path = field(default_factory=default_model)
    module: Any = field(default=None, repr=False)
    network: str | None = None
    network_args: Mapping[str, Any] | Sequence[Any] | None = None
    class_name: str | None = None
    key: str | None = None
    backend: str = "auto"
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int | None = None
    input_size: tuple[int, int] | None = None
    channels: int | None = None
    range: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    expects: str | None = None
    layout: str | None = None
    transpose: bool | None = None
    place: str | None = None
    scores: str | None = None
    model_check: bool = True

    def __post_init__(self) -> None:
        _auto_is_none(self, "batch_size")
        _take_module(self)
        for name, value in declaring(self.declaration).items():
            object.__setattr__(self, name, value)  # the instance is frozen
        settle_types(self, Computing)
        if self.network is None and self.network_args is not None:
            raise UsageError("--network-args has no effect without --network", "add --network")
        if self.network is not None and self.module is not None:
            raise UsageError("a model in memory needs no network", "leave network off")
        check_batch_size("--batch-size", self.batch_size)
        check_choice("--backend", self.backend, BACKENDS)
        check_choice("--precision", self.precision, PRECISIONS)
        check_device_name("--device", self.device)

    @property
    def declaration(self) -> Declaration:
        """What the job says of the network's input and output. Raises UsageError."""
        return by_options(vars(self))

    @property
    def is_packaged_model(self) -> bool:
        """Whether the model is the one in the package, and gets what it was trained on."""
        is_file = self.module is None and self.network is None
        return is_file and not self.declaration.given() and is_packaged(self.model)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reporting:
    """What the report holds.

    If ``format`` is None, the extension of ``out`` decides. ``labels`` are the names of the
    classes, in order; without them the report has their numbers. Rows with a confidence below
    ``review_below`` need a person's review. ``explain`` adds columns about the fitting.
    ``save_fitted`` is a folder for the images that the network saw. ``force`` replaces files that
    this program did not write, or that are read-only. ``parents`` makes the folder of the report if
    it is missing. ``bom`` lets a CSV or TSV report begin with the mark by which Excel knows UTF-8.
    ``max_bad`` is how many error rows are tolerated; a number, or text as the command line has it,
    is accepted too.
    """

    format: str | None = None
    topk: int = 1
    probs: bool = False
    labels: tuple[str, ...] = ()
    review_below: float = REVIEW_BELOW
    explain: bool = False
    save_fitted: Path | None = None
    force: bool = False
    parents: bool = False
    bom: bool = False
    max_bad: Tolerance = Tolerance()

    def __post_init__(self) -> None:
        settle_types(self, Reporting)
        if self.topk < 1:
            raise UsageError(f"--topk {self.topk} is less than 1", "ask for 1 label or more")
        object.__setattr__(self, "labels", check_labels(self.labels))  # the instance is frozen
        _as_tolerance(self, "max_bad", "--max-bad")
        if not 0 <= self.review_below <= 1:
            raise UsageError(
                f"--review-below {self.review_below:g} is not a probability", "try 0.97"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Resuming:
    """How to treat earlier runs and concurrent ones.

    ``update`` reuses the rows of the last report at ``out`` for images that have not changed;
    ``retry_errors`` excludes error rows. If more files of the last report are gone than
    ``max_gone`` allows (a number, or text as the command line has it; MAX_GONE if it is None),
    nothing is published. ``fresh`` forgets what an unfinished run has done. ``wait`` is how many
    seconds to wait for another run that writes ``out``.
    """

    update: bool = False
    retry_errors: bool = False
    max_gone: Tolerance | None = None
    fresh: bool = False
    wait: float = 0.0

    def __post_init__(self) -> None:
        settle_types(self, Resuming)
        if self.retry_errors and not self.update:
            raise UsageError("--retry-errors has no effect without --update", "add --update")
        if self.max_gone is not None and not self.update:
            raise UsageError("--max-gone has no effect without --update", "add --update")
        if self.update and self.max_gone is None:
            object.__setattr__(self, "max_gone", MAX_GONE)  # the instance is frozen
        if self.max_gone is not None:
            _as_tolerance(self, "max_gone", "--max-gone")
        if not 0 <= self.wait < 1e9:
            raise UsageError(f"--wait {self.wait:g} is not a time in seconds", "try 3600")


@dataclass(frozen=True)
class Job(Resuming, Reporting, Computing, Reading):
    """Everything that a run is asked to do: the four parts, what to read, and where to write.

    ``source`` holds paths as text; a :class:`pathlib.Path`, or a single path, is accepted too.
    ``out`` is the report. Code that needs only one part takes that part, and can be given the job.
    """

    source: tuple[str, ...]
    out: Path = STDOUT

    if TYPE_CHECKING:  # fields accept more than they store

        def __init__(
            self, source: Sources, out: AnyPath = ..., **options: Unpack[JobOptions]
        ) -> None: ...

    def __post_init__(self) -> None:
        given: Any = self.source
        if isinstance(given, str | bytes | os.PathLike):
            given = (given,)
        elif not isinstance(given, Iterable):
            raise UsageError(
                f"the source is of type {type(given).__name__}", "give a path, or several"
            )
        sources = tuple(path_text("a source", one) for one in given)
        object.__setattr__(self, "source", sources)  # the instance is frozen
        object.__setattr__(self, "out", as_path("the output", self.out))
        if not self.source:
            raise UsageError("no source given", "name a folder of images or some image files")
        for part in (Reading, Computing, Reporting, Resuming):
            part.__post_init__(self)
        if self.update and self.out == STDOUT:
            raise UsageError("there is no last report to --update", "give --out a file")

    @property
    def reading(self) -> Reading:
        """The options of reading alone, for worker processes."""
        return Reading(**{part.name: getattr(self, part.name) for part in fields(Reading)})


def check_device_name(option: str, name: str) -> None:
    """Raise UsageError unless ``name`` is ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,4})?", name):
        auto = "auto, " if option == "--device" else ""
        raise UsageError(
            f"{option} {name!r} is unknown", f"choose from {auto}cpu, cuda, cuda:0, ..., mps"
        )


def check_batch_size(option: str, batch_size: int | None) -> None:
    """Raise UsageError for a size that a batch cannot have."""
    if batch_size is not None and not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise UsageError(f"{option} {batch_size} is not between 1 and {MAX_BATCH_SIZE}", "try 256")


def check_choice(option: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Raise UsageError unless ``value`` is one of ``choices``, or None."""
    if value is not None and value not in choices:
        raise UsageError(f"{option} {value!r} is unknown", f"choose from {', '.join(choices)}")


def _as_tolerance(part: object, name: str, option: str) -> None:
    """Make a field a Tolerance that is given as a number or as text. Raises UsageError."""
    given = getattr(part, name)
    if not isinstance(given, Tolerance):
        object.__setattr__(part, name, Tolerance.parse(str(given), option))


def _take_module(part: Computing) -> None:
    """Keep a network that is given in memory as ``module``, its name as ``model``."""
    if hasattr(part.model, "state_dict") and hasattr(part.model, "forward"):
        object.__setattr__(part, "module", part.model)
        object.__setattr__(part, "model", Path(type(part.model).__name__))
    if part.module is not None and not hasattr(type(part.module), "state_dict"):
        raise UsageError("the module is no network in memory", "give a torch.nn.Module, as Net()")


def _auto_is_none(part: object, name: str) -> None:
    """Replace ``auto`` by None, as the command line does."""
    given = getattr(part, name)
    if isinstance(given, str) and given == "auto":  # an array would compare its items
        object.__setattr__(part, name, None)
