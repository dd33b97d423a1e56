"""Trying several declarations of a model's input on images whose labels are known.

A state dict does not say which numbers its network was trained on. Given others it answers all the
same, and often wrongly; but it reads fewer images right.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.base import Predictor
from batchdigit.batches import Batch
from batchdigit.errors import CheckpointError, DeviceError
from batchdigit.modelfiles.declaration import PLACES, POLARITIES, Declaration
from batchdigit.models.placing import placed_all
from batchdigit.models.spec import MNIST, InputSpec

# Declarations are tried on few images first; at most so many of them on more. Most of a thousand
# tries are over after thirty images.
FEW, MANY = (30, 16), (100, 8)
PART = 15  # images
USUAL_SIDES = (MNIST.size[0], 32)
SECONDS = 15.0  # that trying many declarations may take; a large network is tried on fewer images
LEAST = 10  # images: fewer say nothing
LEAST_LIKELY = 1e-6  # that a probability counts as
# What tells two declarations apart: this many deviations between the numbers of images that they
# read wrong, or that share of the likelihood.
DEVIATIONS, LIKELIHOODS = 1.5, 1.5

MARGIN = 0.01  # of the likelihood

Numbers = tuple[str, tuple[float, ...], tuple[float, ...]]

_PLAIN = (0.0,), (1.0,)
_MNIST = (0.1307,), (0.3081,)
_HALF = (0.5,), (0.5,)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)
GREY: tuple[Numbers, ...] = (
    ("0-1", *_PLAIN),  # ToTensor() alone
    ("0-1", *_MNIST),  # MNIST's own, of PyTorch's example
    ("0-1", *_HALF),
    ("0-255", *_PLAIN),
    ("0-1", (0.1736,), (0.3317,)),  # of EMNIST's letters and digits
    ("0-1", (0.286,), (0.353,)),  # of Fashion-MNIST
    ("0-255", *_MNIST),  # Normalize without ToTensor
    ("0-1", (_IMAGENET[0][0],), (_IMAGENET[1][0],)),
    ("0-1", (_CIFAR[0][0],), (_CIFAR[1][0],)),
)
COLOUR: tuple[Numbers, ...] = (
    ("0-1", *_PLAIN),
    ("0-1", *_IMAGENET),
    ("0-1", *_HALF),
    ("0-1", *_CIFAR),
    ("0-1", *_MNIST),
    ("0-255", *_PLAIN),
    ("0-1", (0.286,), (0.353,)),
    ("0-255", *_MNIST),
)
"""Ranges, means and deviations that networks of small images are trained with, usual ones first."""


@dataclass(frozen=True)
class Counted:
    """How many of ``of`` images a model reads ``right`` with a declaration.

    ``confidence`` is the mean of its highest probabilities, ``likelihood`` the mean logarithm of
    the probability that it gives to the truth, as far as that shows in the highest one.
    """

    spec: InputSpec
    right: int
    of: int
    confidence: float = 0.0
    likelihood: float = -math.inf

    @property
    def share(self) -> float:
        """The share of images that it reads right."""
        return self.right / self.of


def plausible(
    spec: InputSpec,
    *,
    polarity: bool = True,
    sizes: bool = False,
    others: Iterable[Declaration] = (),
) -> list[InputSpec]:
    """Declarations of the same channels and layout: ``spec`` first, then the usual ones.

    ``polarity`` says whether to try both polarities, ``sizes`` whether to try the usual sizes, too,
    of which some networks take any. ``others`` are declarations to try, too.
    """
    numbers = [
        Declaration(range=extent, mean=mean, std=std)
        for extent, mean, std in (GREY if spec.channels == 1 else COLOUR)
    ]
    declared = spec.declaration
    shapes = itertools.product(
        (spec.place, *PLACES) if _may_be_padded(spec) else (spec.place,),
        (False, True) if spec.size[0] == spec.size[1] else (spec.transpose,),
        POLARITIES if polarity else (spec.expects,),
    )
    tried = [Declaration(range=spec.range, mean=spec.mean, std=spec.std), *others, *numbers]
    specs = [
        InputSpec.declared(
            replace(one, expects=expects, transpose=transpose, place=place).over(declared),
            spec.classes,
        )
        for one, (place, transpose, expects) in itertools.product(tried, list(shapes))
    ]
    usual = [(side, side) for side in USUAL_SIDES if sizes]
    resized = [replace(spec, size=size, place="resize") for size in usual if size != spec.size]
    more = [one for other in resized for one in plausible(other, polarity=False)]
    plain = [one for one in more if not one.transpose and one.place == "resize"]
    return list(dict.fromkeys([spec, *specs, *plain]))


def _may_be_padded(spec: InputSpec) -> bool:
    return spec.size != MNIST.size and min(spec.size) >= max(MNIST.size)


def likeliest(counted: Sequence[Counted]) -> Counted:
    """With which of several declarations a model was trained, the usual ones first among them.

    Where a usual one reads hardly fewer images, and is hardly less sure of the truth, it is that.
    """
    top = max(counted, key=lambda one: one.right)
    among = [one for one in counted if _is_near(one, top)]
    best = max(one.likelihood for one in among)
    return next(one for one in among if one.likelihood >= LIKELIHOODS * best - MARGIN)


def _is_near(one: Counted, top: Counted) -> bool:
    wrong = one.of - one.right + top.of - top.right
    return top.right - one.right <= DEVIATIONS * math.sqrt(wrong)


class DigitTrial:
    """Counts how many images a predictor reads right, given them in several ways.

    ``images`` uint8[N, C, H, W] are light strokes on a dark ground, of the size of MNIST's digits
    or of the size that the network takes. ``truth`` int64[N] is the class of each, as
    ``class_of`` int64[K] numbers the classes of the model.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: NDArray[np.uint8],
        truth: NDArray[np.int64],
        class_of: Sequence[int],
    ) -> None:
        self._predictor = predictor
        self._images = images
        self._truth = truth
        self._class_of = np.array(class_of)

    def __len__(self) -> int:
        return len(self._images)

    def count(self, spec: InputSpec, count: int | None = None) -> Counted:
        """How many of the first ``count`` images, or of all, are read right."""
        images = placed_all(self._images[:count], spec)
        # In parts, because each is computed on a core of its own.
        try:
            found = list(self._predictor.taking(spec).predict(Batch.of(images).parts(PART)))
        except (DeviceError, CheckpointError):  # numbers too large for the network, or for a type
            return Counted(spec, 0, len(images))
        labels = np.concatenate([part.labels[:, 0] for part in found])
        probs = np.concatenate([part.probs[:, 0] for part in found]).astype(np.float64)
        right = self._class_of[labels] == self._truth[: len(images)]
        of_truth = np.where(right, probs, (1 - probs) / max(len(self._class_of) - 1, 1))
        likelihood = np.log(of_truth.clip(LEAST_LIKELY, 1)).mean()
        confidence = float(probs.mean())
        return Counted(spec, int(right.sum()), len(images), confidence, float(likelihood))

    def _takes(self, spec: InputSpec, size: tuple[int, int]) -> bool:
        """Whether the model takes images of that size; that of ``spec``, it does."""
        if size == spec.size:
            return True
        try:
            images = placed_all(self._images[:2], other := replace(spec, size=size, place="resize"))
            list(self._predictor.taking(other).predict([Batch.of(images)]))
        except (DeviceError, CheckpointError):
            return False
        return True

    def _seconds(self, spec: InputSpec) -> float:
        """How long an image takes."""
        started = time.monotonic()
        self.count(spec, LEAST)
        return (time.monotonic() - started) / LEAST

    def rank(self, specs: Sequence[InputSpec], seconds: float = SECONDS) -> Ranked:
        """Try all ``specs``: those that read badly on few images, the others on all.

        On fewer, or on none, where that would take much longer than ``seconds``.
        """
        until = time.monotonic() + seconds
        sizes = {size for size in {one.size for one in specs} if self._takes(specs[0], size)}
        specs = [one for one in specs if one.size in sizes]
        an_image = min(self._seconds(specs[0]) for _ in range(2))  # the first takes longer
        counted: dict[InputSpec, Counted] = {}
        latest: list[Counted] = []
        for wanted, kept in (FEW, MANY, (len(self), 0)):
            affordable = int((until - time.monotonic()) / an_image / len(specs))
            count = min(wanted, affordable, len(self))
            if count < LEAST or (latest and count <= latest[0].of):
                break
            started = time.monotonic()
            latest = [self.count(spec, count) for spec in specs]
            an_image = min(an_image, (time.monotonic() - started) / len(specs) / count)
            counted |= {one.spec: one for one in latest}
            best = sorted(latest, key=_worst_last)[: kept or None]
            specs = [one.spec for one in latest if one in best]  # in their order, usual ones first
        return Ranked(tuple(latest), tuple(sorted(counted.values(), key=_worst_last)))


@dataclass(frozen=True)
class Ranked:
    """What was tried: ``finalists``, usual ones first, and all of it, the best first."""

    finalists: tuple[Counted, ...]
    counted: tuple[Counted, ...]


def _worst_last(counted: Counted) -> tuple[float, ...]:
    """What to sort by; those that hardly differ stay in their order."""
    likelihood = max(counted.likelihood, math.log(LEAST_LIKELY))
    return -counted.of, -counted.right, -round(likelihood / MARGIN)
