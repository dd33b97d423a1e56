"""What a network of any origin gives back, and which of it are the scores of the classes.

The same code serves numpy arrays and torch tensors. B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchdigit.errors import CheckpointError
from batchdigit.models.spec import MNIST
from batchdigit.models.statedict import MAX_CLASSES, few

MAX_NESTING = 3  # of tuples and dictionaries
SUM_TOLERANCE = 1e-3  # of probabilities in half precision

Way = tuple[int | str, ...]  # to a part of what a network returns; empty for all of it


class OutputError(ValueError):
    """What a network returns has no scores of classes, in words."""


class Output(NamedTuple):
    """Where the scores are in what a network returns, and how many classes they are of."""

    way: Way
    classes: int


def choose_output(
    outputs: Any, count: int, labels: int = 0, truth: NDArray[np.int64] | None = None
) -> Output:
    """Which part of ``outputs`` for ``count`` images are the scores [B, K].

    Of several, that of ``labels`` classes counts, if so many are named, or that of ten, or the
    only one. Where several are of the same size, the one that clearly reads most of the images as
    the digits of ``truth``, int64[B], counts, or else the first. Raises OutputError.
    """
    parts = list(_parts(outputs))
    found = {way: classes for way, part in parts if (classes := _classes(part, count))}
    if not found:
        shapes = few(str(list(part.shape)) for _, part in parts) or type(outputs).__name__
        raise OutputError(f"returns {shapes} for {count} images, not [{count}, classes]")
    wanted = labels or MNIST.classes
    if ways := [way for way, classes in found.items() if classes == wanted]:
        return max(
            (Output(way, wanted) for way in ways),
            key=lambda one: _right(outputs, one, truth) if len(ways) > 1 else 0,
        )
    if () in found or len(set(found.values())) == 1:
        return Output(next(iter(found)), next(iter(found.values())))
    shapes = few(f"[{count}, {classes}]" for classes in found.values())
    raise OutputError(f"returns {shapes}, and nobody says which of them are the classes")


def _right(outputs: Any, output: Output, truth: NDArray[np.int64] | None) -> float:
    """The share of images that are read as the digits that they show, to a tenth."""
    if truth is None:
        return 0.0
    scores_BK = np.asarray(scores_in(outputs, output, len(truth)))
    return round(float((scores_BK.argmax(axis=1) == truth).mean()), 1)


def _parts(outputs: Any, way: Way = ()) -> Iterator[tuple[Way, Any]]:
    if hasattr(outputs, "shape"):
        yield way, outputs
    elif isinstance(outputs, Mapping) and len(way) < MAX_NESTING:
        for name, part in outputs.items():
            yield from _parts(part, (*way, name))
    elif isinstance(outputs, list | tuple) and len(way) < MAX_NESTING:
        for place, part in enumerate(outputs):
            yield from _parts(part, (*way, place))


def _classes(part: Any, count: int) -> int:
    """K of scores [B, K] or [B, K, 1, 1]; of one image also [K]. 0 for anything else."""
    shape = tuple(part.shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 1 and count == 1:
        shape = (1, *shape)
    fits = len(shape) == 2 and shape[0] == count and 1 <= shape[1] <= MAX_CLASSES
    return int(shape[1]) if fits else 0


def scores_in(outputs: Any, output: Output, count: int) -> Any:
    """The scores [B, K] of ``count`` images. Raises OutputError unless there is one row for each.

    A ``view(-1, 784)`` in a network can turn images into another number of rows.
    """
    part = outputs
    try:
        for step in output.way:
            part = part[step]
        classes = _classes(part, count)
    except (LookupError, TypeError, AttributeError) as error:
        raise OutputError("returns something else than for the first images") from error
    if classes != output.classes:
        raise OutputError(
            f"returns {list(part.shape)} for {count} images, not [{count}, {output.classes}]"
        )
    return part.reshape(count, classes)


def kind_of_scores(scores_BK: NDArray[np.float32]) -> str:
    """``logits``, ``probabilities`` or ``log-probabilities``, by what they look like.

    Numbers from 0 to 1 count as probabilities even if they don't add up to 1, as those of one
    sigmoid for each class don't.
    """
    scores = scores_BK.astype(np.float64)
    if scores.min() >= 0 and scores.max() <= 1 + SUM_TOLERANCE:
        return "probabilities"
    if scores.max() <= SUM_TOLERANCE and adds_up(np.exp(scores)):
        return "log-probabilities"
    return "logits"


def may_be(scores_BK: NDArray[np.float32], kind: str) -> bool:
    """Whether scores can be of this kind. Logits can be any numbers."""
    lowest, highest = scores_BK.min(), scores_BK.max()
    if kind == "probabilities":
        return bool(lowest >= -SUM_TOLERANCE and highest <= 1 + SUM_TOLERANCE)
    return kind != "log-probabilities" or bool(highest <= SUM_TOLERANCE)


def check_probabilities(probs: NDArray[np.float32]) -> None:
    """Raise CheckpointError for numbers that are no probabilities, as logits may be.

    What scores are is found out on a few digits; other images may show that it was something else.
    """
    if probs.size and not (probs.min() >= -SUM_TOLERANCE and probs.max() <= 1 + SUM_TOLERANCE):
        raise CheckpointError(
            "the network's output was taken for probabilities, but it is not from 0 to 1",
            "give --scores logits",
        )


def adds_up(probs_BK: NDArray[Any]) -> bool:
    """Whether the probabilities of each image add up to 1."""
    return bool((abs(probs_BK.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def to_probabilities(
    scores_BK: Any, scores: str, softmax: Callable[[Any], Any], exp: Callable[[Any], Any]
) -> Any:
    """Probabilities [B, K] of scores of that kind; those that are some stay as they are."""
    if scores == "logits":
        return softmax(scores_BK)
    return exp(scores_BK) if scores == "log-probabilities" else scores_BK
