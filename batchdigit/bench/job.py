"""What a benchmark is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchdigit.errors import UsageError
from batchdigit.job import (
    BACKENDS,
    MAX_BATCH_SIZE,
    PRECISIONS,
    check_choice,
    check_device_name,
    default_model,
)
from batchdigit.modelfiles.declaration import PREPROCESSING, Declaration

MAX_WORKERS_TO_TRY = 256  # or a benchmark would not end in time


@dataclass(frozen=True)
class BenchJob:
    """Everything a benchmark was asked to do. Defaults are written here and nowhere else.

    An empty ``source`` means the thousand digits of the package. ``seconds`` is about how long the
    whole benchmark takes. ``backends``, ``devices``, ``precisions``, ``batch_sizes`` and
    ``workers`` say what to try; where one is empty, what suits the machine is tried. None among
    the last two is ``auto``. ``model``, ``class_name``, ``key``, ``network``, ``network_args`` and
    ``preprocess`` are those of :class:`Job`; ``declaration`` is how images are given to the model.
    Raises UsageError for options that make no sense.
    """

    source: tuple[Path, ...] = ()
    model: Path = field(default_factory=default_model)
    class_name: str | None = None
    key: str | None = None
    network: str | None = None
    network_args: Mapping[str, Any] | Sequence[Any] | None = None
    declaration: Declaration = field(default_factory=Declaration)
    preprocess: str | None = None
    seconds: float = 60.0
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    batch_sizes: tuple[int | None, ...] = ()
    workers: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if not 5 <= self.seconds <= 1e6:
            raise UsageError(f"--seconds {self.seconds:g} is not between 5 and 1000000", "try 60")
        check_choice("--preprocess", self.preprocess, PREPROCESSING)
        for backend in self.backends:
            check_choice("--backends", backend, BACKENDS[1:])
        for precision in self.precisions:
            check_choice("--precisions", precision, PRECISIONS[:3])
        for device in self.devices:
            if device == "auto":
                raise UsageError("--devices auto names no device", "name them: cpu,cuda")
            check_device_name("--devices", device)
        for batch_size in self.batch_sizes:
            if batch_size is not None and not 1 <= batch_size <= MAX_BATCH_SIZE:
                raise UsageError(
                    f"--batch-sizes {batch_size} is not between 1 and {MAX_BATCH_SIZE}", "try 256"
                )
        for workers in self.workers:
            if workers is not None and not 0 <= workers <= MAX_WORKERS_TO_TRY:
                raise UsageError(
                    f"--workers {workers} is not between 0 and {MAX_WORKERS_TO_TRY}", "try 2"
                )
