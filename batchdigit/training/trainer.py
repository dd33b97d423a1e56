"""The state of a training run, and its single steps.

B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from batchdigit.errors import BatchdigitError, CheckpointError
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.cnn import CNN
from batchdigit.models.spec import MNIST
from batchdigit.system.progress import OnProgress
from batchdigit.system.publish import Publication, writing
from batchdigit.system.regular import open_own
from batchdigit.system.words import counted
from batchdigit.training.augment import augmentation
from batchdigit.training.digits import Digits, Splits
from batchdigit.training.job import TrainJob
from batchdigit.training.scores import Score, evaluate, to_float
from batchdigit.version import versions

GROUP = 8  # images that share one random transformation
# The settings that must be equal before one training run may continue another.
BINDING = (
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "average_decay",
    "augment",
    "variants",
    "preprocess",
    "seed",
)


class Trainer:
    """A training run in progress: everything that the next epoch depends on.

    Raises CheckpointError where ``job.start`` has another number of classes.
    """

    def __init__(self, job: TrainJob, device: torch.device, splits: Splits) -> None:
        torch.manual_seed(job.seed)
        self.job = job
        self.data_sha256 = splits.sha256()
        self.device = device
        self.transform = augmentation() if job.augment else _as_it_is
        self.model, self.start_sha256, self.start_key = CNN(), "", ""
        if job.start is not None:
            start = load_checkpoint(job.start, job.class_name, job.key)
            if start.spec != MNIST:
                raise CheckpointError(
                    f"{job.start} knows {counted(start.classes, 'class', 'classes')}, "
                    f"not {MNIST.classes}",
                    "begin with another model, or without --start",
                )
            self.model = start.model
            self.start_sha256, self.start_key = start.sha256, start.key
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
            logits_BK = self.model(to_float(images_BCHW))
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
        """Score the averaged weights, and keep them unless earlier ones had a lower loss.

        Raises BatchdigitError where the loss is not finite.
        """
        score = evaluate(self.average.module, validation, self.device)
        if not math.isfinite(score.loss):
            raise BatchdigitError(
                f"the training diverged: the loss of epoch {self.epoch} is not finite",
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
                publication.create(path, own=True).write(
                    saved(
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
        """Continue from the state at ``path``, if there is one.

        Raises CheckpointError where it is damaged or belongs to another training run.
        """
        if not os.path.lexists(path):
            return
        remedy = "give --fresh to start over"
        try:
            with open_own(path) as file:
                state = torch.load(file, map_location=self.device, weights_only=True)
            others = state["settings"] != self._settings()
            if not others:
                self._restore(state)
        except BatchdigitError:
            raise
        except Exception as error:
            raise CheckpointError(f"{path} is damaged", remedy) from error
        if others:
            raise CheckpointError(
                f"{path} belongs to a training with other settings, images or versions", remedy
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``; raises whatever comes of one that is not as it was saved."""
        for part in ("model", "average", "optimizer", "schedule"):
            getattr(self, part).load_state_dict(state[part])
        history = [
            {"loss": float(entry["loss"]), "errors": int(entry["errors"])}
            for entry in state["history"]
        ]
        epoch, best_epoch = int(state["epoch"]), int(state["best_epoch"])
        finite = all(bool(tensor.isfinite().all()) for tensor in state["best_state"].values())
        if len(history) != epoch or not 1 <= best_epoch <= epoch or not finite:
            raise ValueError("not as it was saved")
        CNN().load_state_dict(state["best_state"])
        self.epoch, self.best_epoch = epoch, best_epoch
        self.best_state = state["best_state"]
        self.history = history

    def _settings(self) -> dict[str, Any]:
        settings = {name: getattr(self.job, name) for name in BINDING}
        settings |= {"start_sha256": self.start_sha256, "start_key": self.start_key}
        return settings | {"data_sha256": self.data_sha256, "versions": versions()}


def _moving_average(decay: float) -> Callable[..., torch.Tensor]:
    """An exponential moving average that forgets its random start quickly.

    The decay of step n is the smaller of ``decay`` and (1 + n) / (10 + n).
    """

    def average(
        averaged: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int
    ) -> torch.Tensor:
        if not averaged.is_floating_point():  # BatchNorm's count of batches
            return current
        return averaged.lerp(current, 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    return average


def saved(content: object) -> bytes:
    """What torch.save writes.

    It writes to memory, because it reports a full disk as a RuntimeError.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _as_it_is(images: torch.Tensor) -> torch.Tensor:
    return images
