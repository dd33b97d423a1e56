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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from batchdigit.backends.torch_device import choose_device
from batchdigit.models.cnn import CNN
from batchdigit.sources.apart import check_apart
from batchdigit.system.json_objects import read_json_object
from batchdigit.system.progress import OnProgress, no_progress
from batchdigit.system.publish import Publication, writing
from batchdigit.system.replacing import Kind
from batchdigit.training.digits import Splits, join, load_splits, variants_of
from batchdigit.training.job import TrainJob
from batchdigit.training.scores import Score, calibrate, evaluate
from batchdigit.training.trainer import BINDING, Trainer, saved
from batchdigit.version import versions

MAX_SUMMARY = 16 << 20  # bytes


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


def _summary_path(out: Path) -> Path:
    return out.with_name(out.name + ".train.json")


def _is_summary(path: Path) -> bool:
    names = {field.name for field in fields(TrainSummary)}
    return names <= read_json_object(path, MAX_SUMMARY).keys()


SUMMARY = Kind("the scores of a training", _is_summary)
WEIGHTS = Kind("the weights of a training", lambda out: _is_summary(_summary_path(out)))


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

    Weights without the scores of their training beside them are somebody's, and stay, unless
    ``job.force`` says otherwise.

    Raises UsageError, SourceError, OutputError, DeviceError, WorkerError, CheckpointError for a
    ``.resume`` file of another training run, and BatchdigitError where the loss is not finite.
    """
    check_apart("--out", job.out, (job.data,))
    device = choose_device(job.device)
    resume_file = job.out.with_name(job.out.name + ".resume")
    with Publication(force=job.force) as publication:
        weights_file = publication.create(job.out, WEIGHTS)
        summary_file = publication.create(_summary_path(job.out), SUMMARY)
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
        with writing(_summary_path(job.out)):
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
        "start_key": trainer.start_key,
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
