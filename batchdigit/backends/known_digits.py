"""Whether a model reads digits whose labels are known.

A state dict does not say which numbers its network was trained on: pixels from 0 to 1, the same
after ``Normalize((0.1307,), (0.3081,))``, 0 to 255, or dark strokes on a light ground. Given others
it answers all the same, and often wrongly. The labelled digits of the package tell.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchdigit.backends.base import Backend, Model, Predictor
from batchdigit.backends.choice import open_backend
from batchdigit.backends.tuning import remembered
from batchdigit.batches import Batch
from batchdigit.errors import DeviceError
from batchdigit.job import Job, is_packaged
from batchdigit.labels import digits_named
from batchdigit.modelfiles.file import ModelFile
from batchdigit.modelfiles.normalisation import flags
from batchdigit.models.digits import packaged_digits
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.system.events import about
from batchdigit.version import __version__

ENOUGH = 300  # digits that judge a model
# Kinds of input are tried on few digits first; so many of them stay for so many digits more.
ROUNDS = ((30, 3), (100, 1))
PART = 15  # digits
WELL, BADLY = 0.98, 0.95  # shares of digits that are read right
MUCH_BETTER = 0.02  # more of them

_BYTE = 1 / MNIST.scale
USUAL = (
    (0.0, 1.0),  # ToTensor() alone
    (0.1307, 0.3081),  # MNIST's own, of PyTorch's example
    (0.5, 0.5),
    (0.485, 0.229),  # of ImageNet's first channel
    (0.286, 0.353),  # of Fashion-MNIST
    (0.0, _BYTE),  # 0 to 255
    (0.1307 * _BYTE, 0.3081 * _BYTE),  # Normalize without ToTensor
)
"""Means and deviations that networks of digits are trained with, for pixels from 0 to 1."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Declared:
    """A mean and a deviation, and how many digits a model reads right with them."""

    mean: float
    std: float
    right: int


@dataclass(frozen=True)
class KnownDigits:
    """How many of ``of`` known digits a model reads ``right`` as its input is declared.

    ``dark`` says that these were dark strokes on a light ground, which it reads better; they are
    tried only where images are read exactly as they are. ``best`` is another kind of input with
    which it reads most of them, or None if nothing else was tried.
    """

    right: int
    of: int
    dark: bool = False
    best: Declared | None = None

    @property
    def is_much_better(self) -> bool:
        """Whether another kind of input is clearly what the model was trained with."""
        if self.best is None or self.best.right < self.of / 2:
            return False
        return self.best.right - self.right >= MUCH_BETTER * self.of

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to warn of."""
        return self.right >= BADLY * self.of and not self.is_much_better

    def problem(self, *, declared: bool, labelled: bool) -> tuple[str, str]:
        """What is wrong with the model and what helps, where it is not fine.

        ``declared`` says that a mean and a deviation were given, ``labelled`` that labels were.
        """
        ground = ", dark on a light ground," if self.dark else ""
        share = f"{self.right / self.of:.1%} of {self.of} known digits{ground}"
        how = "the --mean and --std that are given" if declared else "pixels from 0 to 1"
        if self.best is not None and self.is_much_better:
            better = f"{self.best.right / self.of:.1%}"
            if (self.best.mean, self.best.std) == USUAL[0]:
                return (
                    f"reads {share} right with {how}, but {better} without",
                    "leave --mean and --std off",
                )
            options = flags(self.best.mean, self.best.std)
            return (
                f"reads {share} right with {how}, but {better} with {options}",
                "give these two options if it was trained like that",
            )
        remedy = "check that it was trained on digits; if not, add --labels or --no-model-check"
        if labelled:
            remedy = (
                "check that the labels are in the order of its classes; if it reads something "
                "else than digits, add --no-model-check"
            )
        return f"reads only {share} right, with any usual mean and deviation", remedy

    def as_json(self) -> dict[str, Any]:
        """The counts, and the better kind of input if there is one, as JSON data."""
        better = None
        if self.best is not None and self.is_much_better:
            better = {"mean": self.best.mean, "std": self.best.std, "right": self.best.right}
        return {
            "right": self.right,
            "of": self.of,
            "dark_on_light": self.dark,
            "better": better,
        }


def check_model(
    job: Job,
    backend: Backend,
    model: Model,
    predictor: Predictor | None = None,
    *,
    remember: bool = True,
) -> KnownDigits | None:
    """How many known digits ``model`` reads right; None where that says nothing about it.

    That is so for the packaged model as it is, for models of other than ten classes, for labels
    that name other things than digits, and where ``job`` asks for no check. ``predictor`` is one of
    ``backend`` with ``model``, if there is one already. The result is remembered by the SHA-256 of
    the file, unless ``remember`` is false.

    Where images are read exactly as they are, the polarity is the user's choice, so that a model of
    dark strokes on a light ground is as good as another.
    """
    inverts = job.preprocess != "exact"
    digit_of = digits_named(job.labels or tuple(map(str, range(model.classes))))
    undoubted = job.is_packaged_model or model.classes != MNIST.classes
    if undoubted or not job.model_check or not digit_of:
        return None

    def measure() -> list[Any]:
        trial = _Trial(predictor or backend.predictor(model, 1), model.spec, digit_of, inverts)
        return trial.counts([*USUAL, *([model.carried] if model.carried else ())])

    key = [
        __version__,
        ENOUGH,
        model.sha256,
        model.key,
        model.spec.mean,
        model.spec.std,
        digit_of,
        inverts,
    ]
    if backend.precision != "fp32":
        key.append(backend.precision)
    counts, _ = remembered(
        f"known digits | {' | '.join(map(str, key))}", measure, _are_counts, write=remember
    )
    right, of, dark, *best = counts
    return KnownDigits(right, of, bool(dark), Declared(*best) if best else None)


def check_model_file(job: Job, file: ModelFile) -> tuple[Model, KnownDigits | None]:
    """The same for a file that has only been read; also the model in it. Nothing is remembered.

    Raises BatchdigitError where no backend can compute.
    """
    backend = open_backend(job, file)
    model = backend.load(file, job)
    return model, check_model(job, backend, model, remember=False)


def complaint(job: Job, model: Model, known: KnownDigits | None) -> tuple[str, str] | None:
    """What a person should know of how the input of ``model`` is declared, and what helps."""
    if known is not None and not known.is_fine:
        problem, remedy = known.problem(declared=job.mean is not None, labelled=bool(job.labels))
        which = "packaged model" if is_packaged(job.model) else f"model {job.model}"
        return f"the {which} {problem}", remedy
    if known is None and job.model_check and model.carried and job.mean is None:
        return (
            f"the model {job.model} carries a mean and a std, which nothing applies",
            f"give {flags(*model.carried)} if it was trained with them, else --mean 0 --std 1",
        )
    return None


def warn(job: Job, model: Model, known: KnownDigits | None) -> None:
    """Log the complaint if there is one, even where messages are not wanted."""
    if found := complaint(job, model, known):
        digits = known.as_json() if known else None
        _LOG.warning(
            "%s; %s", *found, extra={"always": True} | about("model_check", known_digits=digits)
        )


class _Trial:
    """Reads the packaged digits with a predictor, given them in several ways."""

    def __init__(
        self, predictor: Predictor, spec: InputSpec, digit_of: Sequence[int], inverts: bool
    ) -> None:
        self._predictor = predictor
        self._spec = spec
        self._digit_of = np.array(digit_of)
        self._inverts = inverts
        self._images = packaged_digits()
        self._truth = np.arange(len(self._images)) % MNIST.classes
        few, _ = ROUNDS[0]
        self._dark = not inverts and self._right(spec.inverted, few) > self._right(spec, few)
        if self._dark:
            self._images = ~self._images

    def counts(self, others: Sequence[tuple[float, float]]) -> list[Any]:
        """Digits read right, digits read, and whether they were dark; then the best of ``others``.

        Others are tried only if that many are not read well.
        """
        right = self._right(self._spec, ENOUGH)
        if right >= WELL * ENOUGH:
            return [right, ENOUGH, self._dark]
        specs = list(self._specs(others))
        for count, kept in ROUNDS:
            rights = {spec: self._right(spec, count) for spec in specs}
            specs = sorted(specs, key=lambda spec: -rights[spec])[:kept]
        (best,) = specs
        counted = self._right(best, ENOUGH)
        return [right, ENOUGH, self._dark, best.mean[0], best.std[0], counted]

    def _specs(self, others: Sequence[tuple[float, float]]) -> Iterator[InputSpec]:
        for mean, std in others:
            spec = self._spec.normalised(mean, std)
            yield from (spec, spec.inverted) if self._inverts else (spec,)

    def _right(self, spec: InputSpec, count: int) -> int:
        # In parts, because each is computed on a core of its own.
        parts = Batch.of(self._images[:count]).parts(PART)
        try:
            predictions = list(self._predictor.taking(spec).predict(parts))
        except DeviceError:  # numbers too large for a low precision
            return 0
        labels = np.concatenate([part.labels[:, 0] for part in predictions])
        return int((self._digit_of[labels] == self._truth[:count]).sum())


def _are_counts(value: Any) -> bool:
    """Whether this is what :meth:`_Trial.counts` gives."""
    return (
        isinstance(value, list)
        and len(value) in (3, 6)
        and all(type(number) in (bool, int, float) for number in value)
        and value[1] > 0
    )
