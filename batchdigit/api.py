"""The Python interface: predictions as a DataFrame or as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, SupportsIndex, TypedDict, cast

from batchdigit import pipeline
from batchdigit.batches import Predictions
from batchdigit.job import Job
from batchdigit.modelfiles.declaration import declaring
from batchdigit.reports.dataframe import data_frame
from batchdigit.reports.table import Tabulator
from batchdigit.system.paths import AnyPath, Sources
from batchdigit.system.stopwatch import Stopwatch

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from typing_extensions import Unpack

    from batchdigit.models.spec import InputSpec
    from batchdigit.system.tolerance import Tolerance

    AnyModel = AnyPath | torch.nn.Module

# The options of a job as keywords, for whoever checks types. They accept more than a Job stores:
# any kind of path, numbers of numpy, text for a tolerance. batchdigit.job says what they mean.


class ReadingOptions(TypedDict, total=False):
    """How images are read."""

    preprocess: str | None
    follow_symlinks: bool
    allow_empty: bool
    max_bytes: SupportsIndex
    max_pixels: SupportsIndex
    timeout: SupportsFloat
    workers: SupportsIndex | Literal["auto"] | None
    start_method: str | None


class WhichModel(TypedDict, total=False):
    """Which network of a model file is meant, what it takes, and what its classes are called."""

    class_name: str | None
    key: str | None
    network: str | None
    network_args: Mapping[str, Any] | Sequence[Any] | None
    labels: Sequence[str]
    input_size: SupportsIndex | tuple[SupportsIndex, SupportsIndex] | str | None
    channels: SupportsIndex | None
    range: str | None
    mean: SupportsFloat | Sequence[SupportsFloat] | str | None
    std: SupportsFloat | Sequence[SupportsFloat] | str | None
    expects: str | None
    layout: str | None
    transpose: bool | None
    place: str | None
    scores: str | None


class ComputingOptions(WhichModel, total=False):
    """What computes, except the model."""

    backend: str
    device: str
    precision: str
    batch_size: SupportsIndex | Literal["auto"] | None
    model_check: bool


class TableOptions(TypedDict, total=False):
    """What a table holds, be it a report or a DataFrame."""

    topk: SupportsIndex
    probs: bool
    review_below: SupportsFloat
    explain: bool


class PredictOptions(ReadingOptions, ComputingOptions, TableOptions, total=False):
    """The options of ``predict`` and ``stream``."""


class ReportOptions(TypedDict, total=False):
    """What concerns a report in a file alone."""

    format: str | None
    save_fitted: AnyPath | None
    force: bool
    parents: bool
    bom: bool
    max_bad: Tolerance | SupportsIndex | str
    update: bool
    max_gone: Tolerance | SupportsIndex | str | None
    retry_errors: bool
    fresh: bool
    wait: SupportsFloat


class JobOptions(PredictOptions, ReportOptions, total=False):
    """All options of a job but its source and its output."""

    model: AnyModel


# Options that only a report in a file has.
_ONLY_FOR_REPORTS = {"out", *ReportOptions.__annotations__}


def predict(
    source: Sources,
    model: AnyModel | None = None,
    spec: InputSpec | None = None,
    **options: Unpack[PredictOptions],
) -> pd.DataFrame:
    """The report on ``source`` as a DataFrame: one row for each image, in the order of their names.

    ``source`` is a folder, an image file, or several of either. ``model`` is a model file, or a
    ``torch.nn.Module`` in memory, which is copied and stays as it is; the default is the file that
    the environment variable ``BATCHDIGIT_MODEL`` names, else the packaged one. ``spec`` declares
    what the network takes, all at once; the options of the same names do so one by one, and come
    first. ``options`` are the fields of :class:`batchdigit.Job` that do not concern a report in a
    file: ``topk``, ``probs``, ``labels``, ``preprocess``, ``review_below``, ``explain``,
    ``class_name``, ``key``, ``network``, ``network_args``, ``input_size``, ``channels``,
    ``range``, ``mean``, ``std``, ``expects``, ``layout``, ``transpose``, ``place``, ``scores``,
    ``model_check``, ``batch_size``, ``workers``, ``backend``, ``device``, ``precision``,
    ``follow_symlinks``, ``allow_empty``, ``max_bytes``, ``max_pixels``, ``timeout``,
    ``start_method``.

    The columns are ``filename`` (string), ``prediction`` (Int64, or string with ``labels``),
    ``confidence`` (float32), ``error`` (string), ``margin`` (float32), ``needs_review`` (boolean),
    and those that ``topk``, ``probs`` and ``explain`` add. A row with an error has NA in all other
    columns but ``filename``; a row without one has NA in ``error``.

    Raises a :class:`batchdigit.BatchdigitError` if no report can be made. An image that cannot be
    used is a row, not an exception.
    """
    job = _job(source, model, spec, options)
    with pipeline.open_session(job, Stopwatch()) as session:
        tabulator = Tabulator(session.source.images, session.layout)
        parts = [tabulator.tabulate(predictions) for predictions in session.predictions()]
        return data_frame(parts, tabulator.columns)


def stream(
    source: Sources,
    model: AnyModel | None = None,
    spec: InputSpec | None = None,
    **options: Unpack[PredictOptions],
) -> Iterator[Predictions]:
    """The predictions on ``source``, batch by batch, in memory that does not grow.

    The arguments are those of :func:`predict`. Each :class:`batchdigit.Predictions` also holds the
    failures of its batch, and knows the ``filenames``.
    """
    return pipeline.stream(_job(source, model, spec, options))


def _job(
    source: Sources, model: AnyModel | None, spec: InputSpec | None, options: PredictOptions
) -> Job:
    for name in _ONLY_FOR_REPORTS & options.keys():
        raise TypeError(f"{name!r} concerns a report in a file; use batchdigit.run(Job(...))")
    given = {**(declaring(spec.declaration) if spec is not None else {}), **options}
    if model is not None:
        given["model"] = model
    return Job(source, **cast("JobOptions", given))
