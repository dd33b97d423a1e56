"""Fitting the CNN to labelled digits.

Images stay uint8 until they are on the device. Augmentation runs there too, on small groups of
images that share one random transformation. The model that is kept is a moving average of the
weights, from the epoch with the lowest loss on the validation images and variants of them, which no
step has seen.

B batch, K classes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from batchdigit.backends.torch_device import choose_device
from batchdigit.models.cnn import CNN
from batchdigit.system.progress import OnProgress, no_progress
from batchdigit.system.publish import Publication, writing
from batchdigit.training.digits import Splits, join, load_splits, variants_of
from batchdigit.training.job import TrainJob
from batchdigit.training.scores import Score, calibrate, evaluate
from batchdigit.training.trainer import BINDING, Trainer, saved
from batchdigit.version import versions


@dataclass(frozen=True)
class TrainSummary:
    """The result of a training run; ``epoch`` is the one (from 1) whose weights were kept.

    ``history`` holds the loss and the errors after each epoch on the validation images and variants
    of them, by which the epoch was chosen. ``validation`` and ``test`` are scores on the images
    alone. ``temperature`` is what the weights of the last layer, and so the logits, were divided
    by. It was chosen on the same images as the epoch, so ``validation.loss`` is a little too good.
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

    The settings and scores go to ``job.out`` with ``.train.json`` added. After each epoch the
    state goes to ``job.out`` with ``.resume`` added, from which the same job continues to the same
    result; that file is removed when the training is complete.

    Raises SourceError, OutputError, DeviceError, WorkerError, CheckpointError for a ``.resume``
    file of another training run, and BatchdigitError where the loss is not finite.
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
        trainer = Trainer(job, device, splits)
        if not job.fresh:
            trainer.load(resume_file)

        variants = functools.cache(lambda turn: variants_of(splits.train, job.seed + turn))
        validation = splits.validation
        if job.variants:
            validation = join(validation, variants_of(validation, job.seed + job.variants))
        while trainer.epoch < job.epochs:
            digits = splits.train
            if job.variants:
                digits = join(digits, variants(trainer.epoch % job.variants))
            trainer.run_epoch(digits, on_progress)
            score = trainer.judge(validation)
            trainer.save(resume_file)
            if on_epoch is not None:
                on_epoch(trainer.epoch, score)

        model = CNN()
        model.load_state_dict(trainer.best_state)
        temperature = calibrate(model, validation)
        summary = _summarise(job, trainer, model, temperature, splits)
        with writing(job.out):
            weights_file.write(saved(model.state_dict()))
        with writing(summary_path):
            summary_file.write(json.dumps(asdict(summary), indent=1).encode() + b"\n")
        publication.publish()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(resume_file)
    return summary


def _summarise(
    job: TrainJob, trainer: Trainer, model: CNN, temperature: float, splits: Splits
) -> TrainSummary:
    cpu = torch.device("cpu")
    settings = {name: getattr(job, name) for name in BINDING} | {
        "data": splits.description,
        "images": {
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        },
        "start_sha256": trainer.start_sha256,
        "device": trainer.device.type,
        "versions": versions() | {"python": platform.python_version()},
    }
    return TrainSummary(
        trainer.best_epoch,
        temperature,
        evaluate(model, splits.validation, cpu),
        evaluate(model, splits.test, cpu),
        trainer.history,
        settings,
    )
