"""From a job to its model: what stands beside the file, the backend, and the model it loads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from batchdigit.backends.base import Backend, Model
from batchdigit.backends.choice import open_backend
from batchdigit.errors import BatchdigitError, CheckpointError, UsageError
from batchdigit.job import Job
from batchdigit.labels import digits_named
from batchdigit.modelfiles.declaration import GIVEN_AS, Declaration, declaring
from batchdigit.modelfiles.file import (
    ONNX,
    SAFETENSORS,
    ModelFile,
    read_model_file,
    safetensors_header,
)
from batchdigit.models.spec import MNIST


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that a backend has loaded.

    ``job`` is what was asked for, with what the model's file and its neighbours say: where the
    weights are, how images are given to it, the names of its classes, whether images are fitted.
    """

    job: Job
    backend: Backend
    model: Model


# Who declares what of a file: the user's options, and other files, which are named.
_SAID: WeakKeyDictionary[ModelFile, tuple[Declaration, Declaration, tuple[str, ...]]] = (
    WeakKeyDictionary()
)
_NOBODY: tuple[Declaration, Declaration, tuple[str, ...]] = (Declaration(), Declaration(), ())


def _blamed(error: UsageError, file: ModelFile | None) -> BatchdigitError:
    """The error for a declaration, which is no wrong usage where only files say it."""
    options, found, by = _SAID.get(file, _NOBODY) if file else _NOBODY
    about = {option for option in GIVEN_AS.values() if option in str(error)}
    if about & _options(options) or not about & _options(found):
        return error
    return _files_fault(error, by)


def _options(declaration: Declaration) -> set[str]:
    """The options for what is declared; a mean of three numbers says how many channels."""
    channels = {GIVEN_AS["channels"]} if len(declaration.mean or ()) > 1 else set()
    return channels | {GIVEN_AS[name] for name in declaration.given()}


def _files_fault(error: UsageError, by: tuple[str, ...]) -> CheckpointError:
    return CheckpointError(
        f"{error.problem}; this is declared by {' and '.join(by)}",
        f"repair or move away what declares it, or {error.remedy}",
    )


def open_model_file(job: Job) -> tuple[Job, ModelFile | None]:
    """The bytes of the model, None for one in memory, and the job with all that is said of it.

    Raises CheckpointError.
    """
    job, file, _by = read_described_model(job)
    return job, file


def read_described_model(job: Job) -> tuple[Job, ModelFile | None, tuple[str, ...]]:
    """The same, and what says how images are given to the model: options, and files by name.

    Options come first, then a ``model.toml``, then the file's metadata, then what Hugging Face's
    processors write. Raises CheckpointError, or UsageError for a --class-name of no class.
    """
    if job.module is not None:
        return job, None, tuple(filter(None, [job.declaration.flags()]))
    if job.is_packaged_model:
        return job, read_model_file(job.model), ()
    from batchdigit.models.described import describe, from_metadata

    found = describe(job.model)
    path = found.weights or job.model
    file = read_model_file(path)
    if job.class_name is not None and job.network is not None:
        raise UsageError("--network names the class", "leave --class-name off")
    if job.class_name is not None and file.format == ONNX:
        raise UsageError("an ONNX file holds no class", "leave --class-name off")
    metadata = from_metadata(path, _metadata(file))
    if metadata.by:
        found = describe(job.model, metadata)
    options: dict[str, Any] = declaring(job.declaration.over(found.declaration))
    if not job.labels and found.labels:
        options["labels"] = found.labels
    by = tuple(filter(None, (job.declaration.flags(), *found.by)))
    _SAID[file] = job.declaration, found.declaration, found.by
    try:
        job = replace(job, model=path, preprocess=job.preprocess or found.fit, **options)
    except UsageError as error:  # each by itself makes sense
        raise _files_fault(error, by) from error
    return job, file, by


def _metadata(file: ModelFile) -> dict[str, str]:
    if file.format == SAFETENSORS:
        metadata = (safetensors_header(file.data) or {}).get("__metadata__")
        return metadata if isinstance(metadata, dict) else {}
    if file.format == ONNX:
        from batchdigit.models.onnx_file import read_onnx_file

        return read_onnx_file(file).metadata
    return {}


def open_model(job: Job) -> Opened:
    """The model of ``job``, loaded by the backend that computes it.

    Raises CheckpointError, UsageError, DeviceError or BatchdigitError.
    """
    job, file = open_model_file(job)
    return load_model(job, file, open_backend(job, file))


def load_model(job: Job, file: ModelFile | None, backend: Backend) -> Opened:
    """The same where file and backend are there already."""
    try:
        model = backend.load(file, job)
    except UsageError as error:
        if (blamed := _blamed(error, file)) is error:
            raise
        raise blamed from error
    fitting = job.preprocess or usual_fitting(job, model)
    return Opened(replace(job, preprocess=fitting), backend, model)


def usual_fitting(job: Job, model: Model) -> str:
    """Which images are fitted where nobody says so: those for networks of ten digits."""
    reads_digits = model.classes == MNIST.classes and (not job.labels or digits_named(job.labels))
    return "auto" if reads_digits else "exact"
