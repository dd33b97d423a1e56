"""How images are given to a model: trying what is plausible on images whose labels are known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.choice import open_backend
from batchdigit.backends.declarations import Counted, DigitTrial, likeliest, plausible
from batchdigit.backends.known_digits import digits_of
from batchdigit.backends.opening import Opened, load_model, open_model_file, usual_fitting
from batchdigit.backends.trying import TakesOtherError
from batchdigit.errors import SourceError, UsageError
from batchdigit.job import Job
from batchdigit.labels import digits_of_names
from batchdigit.modelfiles.declaration import Declaration, declaring
from batchdigit.models.digits import packaged_digits
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.reader import Reader
from batchdigit.sources.folder import open_folders
from batchdigit.system.words import counted

SECONDS = 60.0  # that trying may take
MAX_IMAGES = 2_000
FITS = 0.5  # of the images read right: what reads fewer is not what the model was trained on
SHOWN = 12
DEFAULT = InputSpec().declaration


@dataclass(frozen=True)
class Tried:
    """What was tried with a model.

    ``images`` says on which images. ``counted`` is all that was tried, what reads most of them
    first; ``best`` is what it was trained with, most likely.
    """

    model: Path
    network: str | None
    images: str
    all_images: int
    scores: str
    best: Counted
    counted: tuple[Counted, ...]
    labels: tuple[str, ...]
    preprocess: str | None

    @property
    def tried_on(self) -> int:
        """On how many images the best was tried; a slow network is tried on few."""
        return self.best.of

    @property
    def fits(self) -> bool:
        """Whether it reads enough of them."""
        return self.best.share >= FITS

    def model_toml(self) -> str:
        """The best as a ``model.toml`` beside the model."""
        lines = []
        if _is_unicode(self.model.name):
            lines.append(f"weights = {_toml(self.model.name)}")
        if self.labels:
            lines.append(f"labels = {_toml(self.labels)}")
        if self.preprocess:
            lines.append(f"fit = {json.dumps(self.preprocess)}")
        given = declared(self.best).given()
        if given:
            lines += ["", "[input]"]
            lines += [f"{name} = {json.dumps(value)}" for name, value in given.items()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON data."""
        return {
            "model": str(self.model),
            "network": self.network,
            "images": self.images,
            "scores": self.scores,
            "best": _json(self.best) if self.fits else None,
            "model_toml": self.model_toml() if self.fits else None,
            "tried": [_json(one) for one in self.counted],
        }


def _toml(value: Any) -> str:
    """A text, or several, as TOML has them: as JSON, but it takes no halves of characters."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_unicode(name: str) -> bool:
    """Whether a file's name is text; no TOML can hold others, and beside it none need to."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def declared(one: Counted) -> Declaration:
    """What must be declared, beyond what every model has."""
    return replace(one.spec.declaration, scores=None).without(DEFAULT)


def _json(one: Counted) -> dict[str, Any]:
    declaration = declared(one)
    return {
        "flags": declaration.words(),
        "input": declaration.given(),
        "right": one.right,
        "of": one.of,
        "confidence": round(one.confidence, 4),
    }


def try_declarations(job: Job, *, with_source: bool) -> Tried:
    """Try the plausible declarations of the model of ``job`` on images with known labels.

    They are those in the subfolders of the job's source, which are called as the classes are, or
    the packaged digits. Raises CheckpointError if the model cannot be run, UsageError if nobody
    knows what its classes are, SourceError for a folder without such images.
    """
    opened, shapes = _opened(job)
    job, spec = opened.job, opened.model.spec
    if with_source:
        images, truth, class_of = _labelled(opened)
        source = f"{counted(len(images), 'image')} in {job.source[0]}"
    else:
        class_of = digits_of_names(job.labels or tuple(map(str, range(opened.model.classes))))
        unnamed = not job.labels and opened.model.classes != MNIST.classes
        if unnamed or not any(digit >= 0 for digit in class_of):
            raise UsageError(
                f"the model has {opened.model.classes} classes, and none is known to be a digit",
                "give a SOURCE with a subfolder of images for each class, or --labels",
            )
        images = packaged_digits()
        truth = digits_of(images)
        source = f"{len(images)} known digits"
    trial = DigitTrial(opened.backend.predictor(opened.model, 1), images, truth, class_of)
    shapes = [replace(shape, scores=spec.scores, classes=spec.classes) for shape in shapes]
    any_size = bool(opened.model.source) and job.preprocess != "exact"
    specs = [one for shape in shapes for one in plausible(shape, sizes=any_size)]
    carried = opened.model.carried
    if carried:
        specs += plausible(spec, others=[Declaration(mean=carried[:1], std=carried[1:])])
    ranked = trial.rank(list(dict.fromkeys(specs)), SECONDS)
    usual = usual_fitting(job, opened.model)
    finalists = ranked.finalists or (trial.count(spec),)
    return Tried(
        model=job.model,
        network=job.network,
        images=source,
        all_images=len(images),
        scores=spec.scores,
        best=likeliest(finalists),
        counted=ranked.counted or finalists,
        labels=job.labels,
        preprocess=job.preprocess if job.preprocess != usual else None,
    )


def _opened(job: Job) -> tuple[Opened, list[InputSpec]]:
    """The model, and declarations of other sizes, channels and layouts that it takes."""
    job, file = open_model_file(job)
    backend = open_backend(job, file)
    try:
        opened = load_model(job, file, backend)
    except TakesOtherError as error:
        if not error.specs:
            raise
        first = replace(job, **declaring(error.specs[0].declaration))
        return load_model(first, file, backend), list(error.specs)
    return opened, [opened.model.spec]


def _labelled(opened: Opened) -> tuple[NDArray[np.uint8], NDArray[np.int64], Sequence[int]]:
    """Images of a folder, the classes that its subfolders name, and those of the model."""
    folder = Path(opened.job.source[0])
    if not folder.is_dir():
        raise SourceError(
            f"{folder} is no folder", "name one that has a subfolder of images for each class"
        )
    classes = opened.model.classes
    names = list(opened.job.labels) or [str(number) for number in range(classes)]
    found = list(_subfolders(folder, names))
    if not found:
        raise SourceError(
            f"{folder} has no subfolder that is called as a class of the model is",
            f"name them {names[0]}, {names[1 % classes]}, ...; --labels says what classes are "
            "called",
        )
    exact = opened.job.preprocess == "exact"
    spec = opened.model.spec if exact else MNIST  # digits are brought to another size later
    parts, truth = [], []
    for place, subfolder in found:
        images = DigitImages(open_folders([subfolder]), opened.job.reading, spec)
        places = np.unique(
            np.linspace(0, max(len(images) - 1, 0), MAX_IMAGES // len(found)).astype(np.int64)
        )
        with Reader(images, batch_size=256, workers=0, places=places) as reader:
            read = [batch.images for batch in reader if len(batch)]
        parts += read
        truth += [place] * sum(map(len, read))
    if not truth:
        raise SourceError(f"{folder} has no image that can be read", "see `batchdigit run` on it")
    return np.concatenate(parts), np.array(truth, np.int64), range(classes)


def _subfolders(folder: Path, names: Sequence[str]) -> Iterator[tuple[int, Path]]:
    try:
        for place, name in enumerate(names):
            if name and os.sep not in name and (folder / name).is_dir():
                yield place, folder / name
    except OSError as error:
        raise SourceError(f"cannot read {folder}: {error.strerror}", "name a folder") from error
