"""The options of a job as keywords, for whoever checks types.

They accept more than a :class:`batchdigit.Job` stores: any kind of path, numpy's numbers, text for
a tolerance. What they mean stands in :mod:`batchdigit.job`, and their defaults too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, SupportsFloat, SupportsIndex, TypedDict

if TYPE_CHECKING:
    from batchdigit.job import Tolerance

AnyPath = str | os.PathLike[str]
Sources = AnyPath | Iterable[AnyPath]


class ReadingOptions(TypedDict, total=False):
    """How images are read."""

    preprocess: str
    follow_symlinks: bool
    max_bytes: SupportsIndex
    max_pixels: SupportsIndex
    timeout: SupportsFloat
    workers: SupportsIndex | Literal["auto"] | None
    start_method: str | None


class ComputingOptions(TypedDict, total=False):
    """What computes, except the model."""

    class_name: str | None
    backend: str
    device: str
    precision: str
    batch_size: SupportsIndex | Literal["auto"] | None


class TableOptions(TypedDict, total=False):
    """What a table holds, be it a report or a DataFrame."""

    topk: SupportsIndex
    probs: bool
    labels: Sequence[str]
    review_below: SupportsFloat
    explain: bool


class PredictOptions(ReadingOptions, ComputingOptions, TableOptions, total=False):
    """The options of ``predict`` and ``stream``."""


class ReportOptions(TypedDict, total=False):
    """What concerns a report in a file alone."""

    format: str | None
    save_fitted: AnyPath | None
    max_bad: Tolerance | SupportsIndex | str
    update: bool
    retry_errors: bool
    fresh: bool
    wait: SupportsFloat


class JobOptions(PredictOptions, ReportOptions, total=False):
    """All options of a job but its source and its output."""

    model: AnyPath
