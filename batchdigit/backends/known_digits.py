"""Whether a model reads digits whose labels are known.

A state dict does not say which numbers its network was trained on: pixels from 0 to 1, the same
after ``Normalize((0.1307,), (0.3081,))``, 0 to 255, or dark strokes on a light ground. Given others
it answers all the same, and often wrongly. The labelled digits of the package tell.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.base import Model, Predictor
from batchdigit.backends.choice import open_backend
from batchdigit.backends.declarations import Counted, DigitTrial, likeliest, plausible
from batchdigit.backends.opening import Opened, load_model
from batchdigit.backends.tuning import remembered
from batchdigit.errors import UsageError
from batchdigit.job import Job, is_packaged
from batchdigit.labels import digits_named
from batchdigit.modelfiles.declaration import Declaration, flags
from batchdigit.modelfiles.file import ModelFile
from batchdigit.models.digits import packaged_digits
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.system.events import about
from batchdigit.version import __version__

ENOUGH = 1000  # digits that judge a model
FEW = 30  # digits that tell the polarity
WELL, BADLY = 0.99, 0.95  # shares of digits that are read right
MUCH_BETTER = 0.01  # more of them

SURER = 0.1  # the mean of the highest probabilities
AS_PACKAGED = InputSpec().declaration

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Declared:
    """A declaration, how many digits a model reads right with it, and how sure it is of them."""

    declaration: Declaration
    right: int
    confidence: float = 1.0

    @property
    def options(self) -> str:
        """What to give on the command line; empty for pixels from 0 to 1."""
        return replace(self.declaration, scores=None).without(AS_PACKAGED).flags()


@dataclass(frozen=True)
class KnownDigits:
    """How many of ``of`` known digits a model reads ``right`` as its input is ``declared``.

    ``dark`` says that these were dark strokes on a light ground, which it reads better; they are
    tried only where images are read exactly as they are. ``confidence`` is the mean of the highest
    probabilities. ``best`` is another declaration with which it reads most of them, or None if
    nothing else was tried.
    """

    right: int
    of: int
    dark: bool = False
    best: Declared | None = None
    declared: Declaration = AS_PACKAGED
    confidence: float = 1.0

    @property
    def is_much_better(self) -> bool:
        """Whether another declaration is clearly what the model was trained with.

        It reads more digits right, or as many and is far surer of them.
        """
        if self.best is None or self.best.right < self.of / 2:
            return False
        more = self.best.right - self.right
        surer = self.best.confidence - self.confidence >= SURER
        return more >= MUCH_BETTER * self.of or (more >= 0 and surer)

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to warn of."""
        return self.right >= BADLY * self.of and not self.is_much_better

    def problem(self, *, labelled: bool) -> tuple[str, str]:
        """What is wrong with the model and what helps, where it is not fine.

        ``labelled`` says that labels were given.
        """
        ground = ", dark on a light ground," if self.dark else ""
        share = f"{self.right / self.of:.1%} of {self.of} known digits{ground}"
        how = Declared(self.declared, 0).options or "pixels from 0 to 1"
        if self.best is not None and self.is_much_better:
            better = f"{self.best.right / self.of:.1%}"
            if self.best.right - self.right < MUCH_BETTER * self.of:
                share += f" (mean confidence {self.confidence:.2f})"
                better += f" ({self.best.confidence:.2f})"
            if not (options := self.best.options):
                return f"reads {share} right with {how}, but {better} without", f"leave {how} off"
            return (
                f"reads {share} right with {how}, but {better} with {options}",
                "give these options instead if it was trained like that",
            )
        remedy = "train it longer; if it reads other things than digits, add --labels"
        if labelled:
            remedy = (
                "check that the labels are in the order of its classes; if it reads something "
                "else than digits, add --no-model-check"
            )
        return f"reads only {share} right, and hardly more if its input is declared otherwise", (
            remedy
        )

    def as_json(self) -> dict[str, Any]:
        """The counts, and the better declaration if there is one, as JSON data."""
        better = None
        if self.best is not None and self.is_much_better:
            better = {**self.best.declaration.given(), "right": self.best.right}
        return {
            "right": self.right,
            "of": self.of,
            "dark_on_light": self.dark,
            "better": better,
        }


def check_model(
    opened: Opened, predictor: Predictor | None = None, *, remember: bool = True
) -> KnownDigits | None:
    """How many known digits a model reads right; None where that says nothing about it.

    That is so for the packaged model as it is, for models of other than ten classes, for labels
    that name other things than digits, and where the job asks for no check. ``predictor`` is one of
    the backend with the model, if there is one already. The result is remembered by what the model
    is, unless ``remember`` is false.

    Where images are read exactly as they are, the polarity is the user's choice, so that a model of
    dark strokes on a light ground is as good as another.
    """
    job, backend, model = opened.job, opened.backend, opened.model
    inverts = job.preprocess != "exact"
    digit_of = digits_named(job.labels or tuple(map(str, range(model.classes))))
    undoubted = job.is_packaged_model or model.classes != MNIST.classes
    if undoubted or not job.model_check or not digit_of:
        return None

    def measure() -> dict[str, Any]:
        trial_on = predictor or backend.predictor(model, 1)
        return _measured(model, trial_on, digit_of, inverts=inverts)

    key = [__version__, ENOUGH, model.sha256, model.source, model.key, model.spec.text, digit_of]
    key.append(inverts)
    if job.network is not None:
        from batchdigit.networks.naming import told_apart

        key.append(told_apart(job.network, job.network_args, model.source))
    if backend.precision != "fp32":
        key.append(backend.precision)
    counts, _ = remembered(
        f"known digits | {' | '.join(map(str, key))}", measure, _are_counts, write=remember
    )
    best = counts["best"] and Declared(Declaration.of(counts["best"][0], str), *counts["best"][1:])
    return KnownDigits(
        counts["right"],
        counts["of"],
        counts["dark"],
        best,
        model.spec.declaration,
        counts["confidence"],
    )


def _measured(
    model: Model, predictor: Predictor, digit_of: Sequence[int], *, inverts: bool
) -> dict[str, Any]:
    """How many digits are read right as declared, and if it is not nearly all, how else."""
    images = packaged_digits()[:ENOUGH]
    truth = digits_of(images)
    trial = DigitTrial(predictor, images, truth, digit_of)
    spec = model.spec
    dark = not inverts and _more_right(trial, spec.inverted, spec)
    if dark:
        trial = DigitTrial(predictor, ~images, truth, digit_of)
    now = trial.count(spec)
    best: Counted | None = None
    if now.share < WELL or now.confidence < WELL - SURER:
        others, sizes = [], bool(model.source)
        if model.carried:
            mean, std = model.carried
            others.append(Declaration(mean=(mean,), std=(std,)))
        best = _better(trial, now, plausible(spec, polarity=inverts, sizes=sizes, others=others))
    found = best and [best.spec.declaration.given(), best.right, best.confidence]
    return {
        "right": now.right,
        "of": now.of,
        "dark": dark,
        "confidence": now.confidence,
        "best": found,
    }


def _better(trial: DigitTrial, now: Counted, specs: Sequence[InputSpec]) -> Counted | None:
    """The likeliest declaration among those that read more digits right, or else among all."""
    finalists = trial.rank(specs).finalists
    if not finalists:
        return None
    if finalists[0].of < now.of:  # a large network, which was tried on few
        return trial.count(likeliest(finalists).spec)
    better = [one for one in finalists if one.right - now.right >= MUCH_BETTER * now.of]
    return likeliest(better or finalists)


def digits_of(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which digits the packaged ones show, int64[N]."""
    return np.arange(len(images), dtype=np.int64) % MNIST.classes


def _more_right(trial: DigitTrial, one: InputSpec, other: InputSpec) -> bool:
    return trial.count(one, FEW).right > trial.count(other, FEW).right


def check_model_file(job: Job, file: ModelFile | None) -> tuple[Opened, KnownDigits | None]:
    """The same for a file that has only been read; also the model in it. Nothing is remembered.

    Raises BatchdigitError where no backend can compute.
    """
    opened = load_model(job, file, open_backend(job, file))
    return opened, check_model(opened, remember=False)


def complaint(opened: Opened, known: KnownDigits | None) -> tuple[str, str] | None:
    """What a person should know of how the input of a model is declared, and what helps."""
    job, model = opened.job, opened.model
    if known is not None and not known.is_fine:
        problem, remedy = known.problem(labelled=bool(job.labels))
        which = "packaged model" if is_packaged(job.model) else f"model {job.model}"
        return f"the {which} {problem}", remedy
    if known is None and job.model_check and model.carried and job.mean is None:
        return (
            f"the model {job.model} carries a mean and a std, which nothing applies",
            f"give {flags(*model.carried)} if it was trained with them, else --mean 0 --std 1",
        )
    return None


def warn(opened: Opened, known: KnownDigits | None) -> None:
    """Log the complaint if there is one, even where messages are not wanted."""
    if found := complaint(opened, known):
        digits = known.as_json() if known else None
        _LOG.warning(
            "%s; %s", *found, extra={"always": True} | about("model_check", known_digits=digits)
        )


def _are_counts(value: Any) -> bool:
    """Whether this is what :func:`_measured` gives."""
    try:
        declaration, right, confidence = value["best"] or ({}, 0, 0.0)
        Declaration.of(declaration, str)
        numbers = value["right"], value["of"], right
        sure = type(confidence) is type(value["confidence"]) is float
    except (TypeError, KeyError, ValueError, AttributeError, UsageError):
        return False
    return sure and all(type(number) is int for number in numbers) and value["of"] > 0
