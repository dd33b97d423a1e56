"""Trying several declarations of a model's input on images whose labels are known.

A state dict does not say which numbers its network was trained on. Given others it answers all the
same, and often wrongly; but it reads fewer images right.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.base import Predictor
from batchdigit.batches import Batch
from batchdigit.errors import CheckpointError, DeviceError
from batchdigit.modelfiles.declaration import PLACES, POLARITIES, Declaration
from batchdigit.models.placing import placed_all
from batchdigit.models.spec import MNIST, InputSpec

# Declarations are tried on few images first; so many of them stay for so many images more.
ROUNDS = ((30, 8), (100, 4), (300, 2))
PART = 15  # images
SECONDS = 15.0  # that trying many declarations may take; a large network is tried on fewer images
LEAST = 10  # images: fewer say nothing
LEAST_LIKELY = 1e-6  # that a probability counts as

_MNIST = ((0.1307,), (0.3081,))
NUMBERS: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...] = (
    ("0-1", (0.0,), (1.0,)),  # ToTensor() alone
    ("0-1", *_MNIST),  # MNIST's own, of PyTorch's example
    ("0-1", (0.5,), (0.5,)),
    ("0-255", (0.0,), (1.0,)),
    ("0-255", *_MNIST),  # Normalize without ToTensor
    ("0-1", (0.286,), (0.353,)),  # of Fashion-MNIST
    ("0-1", (0.1736,), (0.3317,)),  # of EMNIST's letters and digits
    ("0-1", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # of ImageNet
    ("0-1", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)),  # of CIFAR-10
)
"""Ranges, means and deviations that networks of small images are trained with.

For a network of one channel, the first number of three counts.
"""


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
    spec: InputSpec, *, polarity: bool = True, others: Iterable[Declaration] = ()
) -> list[InputSpec]:
    """Declarations of the same size, channels and layout, ``spec`` the first of them.

    ``polarity`` says whether to try both polarities. ``others`` are declarations to try, too.
    """
    numbers = [
        Declaration(range=extent, mean=mean[: spec.channels], std=std[: spec.channels])
        for extent, mean, std in NUMBERS
    ]
    declared = spec.declaration
    tried = [Declaration(range=spec.range, mean=spec.mean, std=spec.std), *numbers, *others]
    shapes = itertools.product(
        POLARITIES if polarity else (spec.expects,),
        (False, True) if spec.size[0] == spec.size[1] else (spec.transpose,),
        PLACES if min(spec.size) > MNIST.size[0] else (spec.place,),
    )
    specs = [
        InputSpec.declared(
            replace(one, expects=expects, transpose=transpose, place=place).over(declared),
            spec.classes,
        )
        for (expects, transpose, place), one in itertools.product(shapes, tried)
    ]
    return list(dict.fromkeys([spec, *specs]))


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

    def rank(self, specs: Sequence[InputSpec], seconds: float = SECONDS) -> list[Counted]:
        """All specs, those that read best first; those that read badly are tried on few images.

        Empty if even that takes much longer than ``seconds``.
        """
        started = time.monotonic()
        self.count(specs[0], LEAST)
        an_image = (time.monotonic() - started) / LEAST
        fewest = min(ROUNDS[0][0], int(seconds / an_image / len(specs)))
        if fewest < LEAST:
            return []
        counted: dict[InputSpec, Counted] = {}
        for count, kept in self._rounds(fewest):
            latest = sorted((self.count(spec, count) for spec in specs), key=_worst_last)
            counted |= {one.spec: one for one in latest}
            specs = [one.spec for one in latest[:kept]]
        return sorted(counted.values(), key=_worst_last)

    def _rounds(self, fewest: int) -> Iterator[tuple[int, int]]:
        (_, kept), *more = ROUNDS
        yield fewest, kept
        if fewest == ROUNDS[0][0]:
            yield from more
            yield len(self), 1


def _worst_last(counted: Counted) -> tuple[float, ...]:
    return -counted.of, -counted.right, -counted.likelihood
