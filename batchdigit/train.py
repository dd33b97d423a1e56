"""Fitting the CNN to labelled digits.

Images stay uint8 until they are on the device. Augmentation runs there too, on small groups of a
batch that share one random transformation. The model that is kept is a moving average of the
weights, at the epoch with the lowest loss on validation images, and variants of them, that no step
has seen.

B batch, K classes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from batchdigit.backends.torch_device import choose_device
from batchdigit.dataset import Digits, Splits, join, load_splits, variants_of
from batchdigit.errors import BatchdigitError, CheckpointError
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.cnn import CNN
from batchdigit.models.network import CLASSES
from batchdigit.system.progress import OnProgress, no_progress
from batchdigit.system.publish import Publication, writing
from batchdigit.training.job import TrainJob
from batchdigit.version import versions

GROUP = 8  # images of a batch that share one random transformation
FEWEST_ERRORS = 10
# What must be equal for a training to go on where another stopped.
BINDING = (
    *("epochs", "batch_size", "learning_rate", "weight_decay", "average_decay"),
    *("augment", "variants", "preprocess", "seed"),
)

Transform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Score:
    """How a model did on labelled digits.

    ``loss`` is the mean cross-entropy, ``errors`` of ``images`` are wrong, and
    ``confusion[truth][prediction]`` counts images.
    """

    loss: float
    errors: int
    images: int
    confusion: list[list[int]]

    @property
    def accuracy(self) -> float:
        """The share of images whose likeliest class is the right one."""
        return 1 - self.errors / self.images


@dataclass(frozen=True)
class TrainSummary:
    """What came of a training; ``epoch`` is the one (from 1) whose weights were kept.

    ``history`` holds the loss and errors after each epoch on what it was chosen by: the validation
    images and variants of them; ``validation`` and ``test`` are of the images alone.
    ``temperature`` is what the logits were divided by, in the weights of the last layer; it was
    chosen on what the epoch was chosen by, so ``validation.loss`` is a little too good.
    """

    epoch: int
    temperature: float
    validation: Score
    test: Score
    history: list[dict[str, float]]
    settings: dict[str, Any]


def train(
    job: TrainJob,
    *,
    on_progress: OnProgress = no_progress,
    on_epoch: Callable[[int, Score], None] | None = None,
) -> TrainSummary:
    """Fit the CNN to ``job.data`` and write its state dict to ``job.out``.

    ``on_progress(batches done, 0, batches in all)`` is called after each batch, ``on_epoch(epoch
    from 1, its score on the validation images and variants of them)`` after each epoch.

    ``job.out`` with ``.train.json`` added gets the settings and scores. After each epoch the
    state goes to ``job.out`` with ``.resume`` added, from which the same job continues with the
    same result; the file goes when the training is complete.

    Raises SourceError, OutputError, DeviceError, WorkerError, and CheckpointError for a ``.resume``
    file of another training.
    """
    device = choose_device(job.device)
    resume_file = job.out.with_name(job.out.name + ".resume")
    with Publication() as publication:
        weights_file = publication.create(job.out)
        summary_path = job.out.with_name(job.out.name + ".train.json")
        summary_file = publication.create(summary_path)
        splits = load_splits(
            job.data, download=job.download, seed=job.seed, preprocess=job.preprocess
        )
        fitting = Fitting(job, device, splits)
        if not job.fresh:
            fitting.load(resume_file)

        variants = functools.cache(lambda turn: variants_of(splits.train, job.seed + turn))
        validation = splits.validation
        if job.variants:
            validation = join(validation, variants_of(validation, job.seed + job.variants))
        while fitting.epoch < job.epochs:
            digits = splits.train
            if job.variants:
                digits = join(digits, variants(fitting.epoch % job.variants))
            fitting.run_epoch(digits, on_progress)
            score = fitting.judge(validation)
            fitting.save(resume_file)
            if on_epoch is not None:
                on_epoch(fitting.epoch, score)

        model = CNN()
        model.load_state_dict(fitting.best_state)
        temperature = calibrate(model, validation)
        summary = _summarise(job, fitting, model, temperature, splits)
        with writing(job.out):
            weights_file.write(_saved(model.state_dict()))
        with writing(summary_path):
            summary_file.write(json.dumps(asdict(summary), indent=1).encode() + b"\n")
        publication.publish()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(resume_file)
    return summary


class Fitting:
    """A training in progress: everything that the next epoch depends on."""

    def __init__(self, job: TrainJob, device: torch.device, splits: Splits) -> None:
        torch.manual_seed(job.seed)
        self.job = job
        self.data_sha256 = splits.sha256()
        self.device = device
        self.transform = augmentation() if job.augment else _as_it_is
        self.model, self.start_sha256 = CNN(), ""
        if job.start is not None:
            start = load_checkpoint(job.start)
            if start.classes != CLASSES:
                raise CheckpointError(
                    f"{job.start} knows {start.classes} classes, not {CLASSES}",
                    "begin with another model, or without --start",
                )
            self.model, self.start_sha256 = start.model, start.sha256
            self.model.requires_grad_(requires_grad=True)
        self.model.to(device).to(memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.model, avg_fn=_moving_average(job.average_decay), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=job.learning_rate, weight_decay=job.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=job.learning_rate,
            epochs=job.epochs,
            steps_per_epoch=-(-len(splits.train) * (2 if job.variants else 1) // job.batch_size),
        )
        self.epoch = 0
        self.best_epoch = 0
        self.best_state: dict[str, torch.Tensor] = {}
        self.history: list[dict[str, float]] = []

    def run_epoch(self, digits: Digits, on_progress: OnProgress) -> None:
        """One pass over ``digits`` in an order and with transformations fixed by the seed."""
        torch.manual_seed(self.job.seed + 1_000_003 * (self.epoch + 1))
        self.model.train()
        batches = torch.randperm(len(digits)).split(self.job.batch_size)
        for step, chosen in enumerate(batches, start=1):
            batch = digits[chosen]
            images_BCHW = batch.images.to(self.device)
            images_BCHW = torch.cat([self.transform(part) for part in images_BCHW.split(GROUP)])
            logits_BK = self.model(_to_float(images_BCHW))
            loss = nn.functional.cross_entropy(logits_BK, batch.labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.model)
            done = self.epoch * len(batches) + step
            on_progress(done, 0, self.job.epochs * len(batches))
        self.epoch += 1

    def judge(self, validation: Digits) -> Score:
        """Score the averaged weights, and keep them if none before had a lower loss."""
        score = evaluate(self.average.module, validation, self.device)
        if not math.isfinite(score.loss):
            raise BatchdigitError(
                f"the training went astray: the loss of epoch {self.epoch} is not finite",
                "try a lower --learning-rate",
            )
        self.history.append({"loss": score.loss, "errors": score.errors})
        if score.loss <= min(entry["loss"] for entry in self.history):
            self.best_epoch = self.epoch
            self.best_state = {
                key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for key, value in self.average.module.state_dict().items()
            }
        return score

    def save(self, path: Path) -> None:
        """Write the whole state to ``path``, atomically."""
        with Publication() as publication:
            with writing(path):
                publication.create(path).write(
                    _saved(
                        {
                            "settings": self._settings(),
                            "model": self.model.state_dict(),
                            "average": self.average.state_dict(),
                            "optimizer": self.optimizer.state_dict(),
                            "schedule": self.schedule.state_dict(),
                            "epoch": self.epoch,
                            "best_epoch": self.best_epoch,
                            "best_state": self.best_state,
                            "history": self.history,
                        }
                    )
                )
            publication.publish()

    def load(self, path: Path) -> None:
        """Go on from the state at ``path``, if there is one."""
        if not path.exists():
            return
        remedy = "give --fresh to start over"
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            settings = state["settings"]
        except Exception as error:
            raise CheckpointError(f"{path} is damaged", remedy) from error
        if settings != self._settings():
            raise CheckpointError(
                f"{path} belongs to a training with other settings, other images or versions",
                remedy,
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch = state["epoch"]
        self.best_epoch = state["best_epoch"]
        self.best_state = state["best_state"]
        self.history = state["history"]

    def _settings(self) -> dict[str, Any]:
        settings = {name: getattr(self.job, name) for name in BINDING}
        settings |= {"data_sha256": self.data_sha256, "start_sha256": self.start_sha256}
        return settings | {"versions": versions()}


def augmentation() -> Transform:
    """Random small rotations, shifts, scalings, shears and elastic distortions of uint8 images.

    The ranges keep every digit inside its 28x28 frame and its class beyond doubt; the elastic
    distortion is that of Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural
    Networks" (2003), at a displacement of about 0.7 pixels (root mean square).
    """
    # Imported here: only training needs torchvision, and it takes seconds.
    from torchvision.transforms import v2

    transform: Transform = v2.Compose(
        [
            v2.RandomAffine(
                degrees=12,
                translate=(0.08, 0.08),
                scale=(0.88, 1.12),
                shear=(-8, 8, -8, 8),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.RandomApply([v2.ElasticTransform(alpha=36.0, sigma=4.0)], p=0.7),
        ]
    )
    return transform


def calibrate(model: CNN, digits: Digits) -> float:
    """Make the softmax of ``model`` mean what it says on ``digits``; gives the temperature.

    Temperature scaling (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
    Networks", 2017): the temperature of the lowest cross-entropy, on images that the weights were
    not fitted to. The last layer is divided by it, so whatever runs the weights is calibrated.
    With fewer than FEWEST_ERRORS there is nothing to learn it from, and it stays 1.
    """
    model.eval()
    with torch.inference_mode():
        logits_BK = torch.cat([model(_to_float(part)) for part in digits.images.split(1000)])
    logits_BK = logits_BK.clone()  # a normal tensor, which gradients can go through
    if int((logits_BK.argmax(1) != digits.labels).sum()) < FEWEST_ERRORS:
        return 1.0
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(logits_BK / log_temperature.exp(), digits.labels)
        value.backward()
        return value.item()

    optimizer.step(loss)
    temperature = log_temperature.exp().item()
    last = model.fc[-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.div_(temperature)
    return temperature


def evaluate(model: nn.Module, digits: Digits, device: torch.device) -> Score:
    """Score ``model``, which is left in ``eval()`` mode, on labelled digits."""
    model.eval()
    confusion = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    loss = 0.0
    with torch.inference_mode():
        for start in range(0, len(digits), 1000):
            batch = digits[start : start + 1000]
            logits_BK = model(_to_float(batch.images.to(device))).cpu()
            loss += float(nn.functional.cross_entropy(logits_BK, batch.labels, reduction="sum"))
            cells = batch.labels * CLASSES + logits_BK.argmax(1)
            confusion += torch.bincount(cells, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    errors = len(digits) - int(confusion.trace())
    return Score(loss / len(digits), errors, len(digits), confusion.tolist())


def _moving_average(decay: float) -> Callable[..., torch.Tensor]:
    """An exponential moving average that forgets its random start quickly.

    The decay of step n is the lesser of ``decay`` and (1 + n) / (10 + n).
    """

    def average(
        averaged: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int
    ) -> torch.Tensor:
        if not averaged.is_floating_point():  # BatchNorm's count of batches
            return current
        return averaged.lerp(current, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    return average


def _summarise(
    job: TrainJob, fitting: Fitting, model: CNN, temperature: float, splits: Splits
) -> TrainSummary:
    cpu = torch.device("cpu")
    settings = {name: getattr(job, name) for name in BINDING} | {
        "data": splits.description,
        "images": {
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        },
        "start_sha256": fitting.start_sha256,
        "device": fitting.device.type,
        "versions": versions() | {"python": platform.python_version()},
    }
    return TrainSummary(
        fitting.best_epoch,
        temperature,
        evaluate(model, splits.validation, cpu),
        evaluate(model, splits.test, cpu),
        fitting.history,
        settings,
    )


def _saved(content: object) -> bytes:
    """What torch.save writes; to memory first, since it tells a full disk by a RuntimeError."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _to_float(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def _as_it_is(images: torch.Tensor) -> torch.Tensor:
    return images
