"""From a job to its model: what stands beside the file, the backend, and the model it loads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from batchdigit.backends.base import Backend, Model
from batchdigit.backends.choice import open_backend
from batchdigit.job import Job
from batchdigit.labels import digits_named
from batchdigit.modelfiles.declaration import declaring
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


def open_model_file(job: Job) -> tuple[Job, ModelFile | None]:
    """The bytes of the model, None for one in memory, and the job with all that is said of it.

    Raises CheckpointError.
    """
    job, file, _by = read_described_model(job)
    return job, file


def read_described_model(job: Job) -> tuple[Job, ModelFile | None, tuple[str, ...]]:
    """The same, and what says how images are given to the model: options, and files by name.

    Options come first, then a ``model.toml``, then the file's metadata, then what Hugging Face's
    processors write. Raises CheckpointError.
    """
    if job.module is not None:
        return job, None, tuple(filter(None, [job.declaration.flags()]))
    if job.is_packaged_model:
        return job, read_model_file(job.model), ()
    from batchdigit.models.described import describe, from_metadata

    found = describe(job.model)
    path = found.weights or job.model
    file = read_model_file(path)
    found = found.over(from_metadata(path, _metadata(file)))
    options: dict[str, Any] = declaring(job.declaration.over(found.declaration))
    if not job.labels and found.labels:
        options["labels"] = found.labels
    by = (job.declaration.flags(), *found.by)
    job = replace(job, model=path, preprocess=job.preprocess or found.fit, **options)
    return job, file, tuple(filter(None, by))


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
    model = backend.load(file, job)
    return Opened(replace(job, preprocess=_fitting(job, model)), backend, model)


def _fitting(job: Job, model: Model) -> str:
    """Which images are fitted: those for networks of ten digits, unless somebody says so."""
    reads_digits = model.classes == MNIST.classes and (not job.labels or digits_named(job.labels))
    return job.preprocess or ("auto" if reads_digits else "exact")
