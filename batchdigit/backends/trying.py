"""Trying a user's own network on known digits, before any image is read.

What it returns is found out, and what makes its answers worthless is an error: no row for each
image, numbers that are not finite, answers that change from one time to the next or with the other
images of a batch.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.ahead import at_once
from batchdigit.backends.outputs import (
    Output,
    OutputError,
    adds_up,
    choose_output,
    kind_of_scores,
    may_be,
    scores_in,
)
from batchdigit.errors import CheckpointError, UsageError
from batchdigit.modelfiles.declaration import LAYOUTS, Declaration
from batchdigit.models.digits import packaged_digits
from batchdigit.models.placing import placed_all
from batchdigit.models.spec import MNIST, InputSpec

COUNT = 20  # digits
DECIMALS = 3  # of scores that tell networks apart: more would tell rounding apart
SAME = 1e-3  # of the largest score: rounding differs with the size of a batch, but by less
SIZES = (28, 32, 64, 224)  # that are tried where the declared one does not fit
MAX_REMEDIES = 2

Forward = Callable[[NDArray[np.uint8]], Any]
"""What a network returns for images uint8[B, 1, H, W], its arrays in main memory."""


@dataclass(frozen=True)
class Tried:
    """What a network was found to return.

    ``scores`` are what they look like, if nobody declared it. ``adds_up`` says whether the
    probabilities of an image add up to 1. ``answers`` is a digest of what it said of known digits.
    """

    output: Output
    scores: str
    adds_up: bool
    answers: str = ""


class TakesOtherError(CheckpointError):
    """A network that does not take images as declared; it does take those of ``specs``."""

    def __init__(self, problem: str, remedy: str = "", specs: Sequence[InputSpec] = ()) -> None:
        super().__init__(problem, remedy)
        self.specs = specs


def try_network(forward: Forward, spec: InputSpec, name: str, labels: int = 0) -> Tried:
    """What the network called ``name`` returns for known digits, given to it as ``spec`` says.

    ``labels`` is how many classes have a name, 0 if none has. Raises CheckpointError, or UsageError
    where its scores are not what is declared.
    """
    digits = packaged_digits()
    images = placed_all(digits[:COUNT], spec)
    try:
        outputs = forward(images)
        truth = np.arange(len(images)) % MNIST.classes
        output = choose_output(outputs, len(images), labels, truth)
        scores_BK = _array(scores_in(outputs, output, len(images)))
        _check_finite(scores_BK, name)
        again_BK = _array(scores_in(forward(images), output, len(images)))
        parts = [
            _array(scores_in(forward(part), output, len(part)))
            for part in np.split(images, [1, COUNT // 2])
        ]
        many = placed_all(digits[: at_once(spec)], spec)
        scores_in(forward(many), output, len(many))  # as many as are computed together later
    except OutputError as error:
        raise CheckpointError(f"the network {name} {error}", _ROWS) from error
    if _differ(scores_BK, again_BK):
        raise CheckpointError(
            f"the network {name} answers differently each time, even in eval()",
            "let its dropout and noise end with training: F.dropout(x, training=self.training)",
        )
    if _differ(scores_BK, np.concatenate(parts)):
        raise CheckpointError(
            f"the answers of the network {name} depend on the other images in a batch, even in "
            "eval()",
            "let its BatchNorm use what it learnt, and keep images apart in forward()",
        )
    kind = kind_of_scores(scores_BK) if spec.scores == "auto" else spec.scores
    if not may_be(scores_BK, kind):
        raise UsageError(
            f"the network {name} gives {scores_BK.min():.3g} to {scores_BK.max():.3g} for known "
            f"digits, and no {kind}",
            "leave --scores off, or give --scores logits",
        )
    whole = kind != "probabilities" or adds_up(scores_BK)
    rounded = scores_BK.round(DECIMALS) + 0.0  # no -0
    return Tried(output, kind, whole, hashlib.sha256(rounded.tobytes()).hexdigest())


_ROWS = "let forward() return the scores of each image, [images, classes], alone or in a tuple"


def _check_finite(scores_BK: NDArray[Any], name: str) -> None:
    if not np.isfinite(scores_BK).all():
        raise CheckpointError(
            f"the network {name} gives numbers that are not finite for known digits",
            "check its weights, and that --range, --mean and --std are those of its training",
        )


def _differ(one: NDArray[Any], other: NDArray[Any]) -> bool:
    # The other may hold what is no number, which is neither more nor less.
    return not bool(abs(one - other).max() <= SAME * max(1.0, abs(one).max()))


def _array(part: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.asarray(part).astype(np.float32)
    return array


def takes_other(
    problem: str, remedy: str, runs: Callable[[InputSpec], bool], spec: InputSpec
) -> TakesOtherError:
    """The error for a network that does not take images as ``spec`` says.

    ``runs`` says whether it takes others. Those that change least come first; ``remedy`` is for a
    network that takes none.
    """
    found: list[InputSpec] = []
    for other in filter(runs, _others(spec)):
        if len(found) == MAX_REMEDIES:
            break
        if not any(_changes(one, spec) < _changes(other, spec) for one in found):
            found.append(other)  # what changes no more than another one does
    better = [other.declaration.without(spec.declaration).flags() for other in found]
    if better:
        remedy = f"it does with {' or '.join(better)}"
    return TakesOtherError(problem, remedy, found)


def _changes(other: InputSpec, spec: InputSpec) -> set[tuple[str, Any]]:
    """What another declaration changes."""
    changed = other.declaration.without(spec.declaration)
    return set(replace(changed, mean=None, std=None).given().items())


def _others(spec: InputSpec) -> Iterator[InputSpec]:
    sizes = dict.fromkeys([spec.size, *((side, side) for side in SIZES)])
    channels = dict.fromkeys([spec.channels, 1, 3])
    layouts = dict.fromkeys([spec.layout, *LAYOUTS])
    changes = [
        {"size": size, "channels": count, "layout": layout}
        for size, count, layout in itertools.product(sizes, channels, layouts)
    ]
    now = {name: getattr(spec, name) for name in ("size", "channels", "layout")}
    for change in sorted(changes, key=lambda one: sum(one[name] != now[name] for name in now)):
        if change != now and not (change["layout"] == "nhw" and change["channels"] == 3):
            given = spec.declaration.given() | change
            if len(given["mean"]) != 1 and len(given["mean"]) != change["channels"]:
                given |= {"mean": spec.mean[:1], "std": spec.std[:1]}
            yield replace(InputSpec.declared(Declaration(**given)), classes=spec.classes)
