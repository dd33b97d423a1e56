"""How a model does on labelled digits, and what its confidence is worth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from batchdigit.models.cnn import CNN
from batchdigit.models.network import CLASSES
from batchdigit.training.digits import Digits

FEWEST_ERRORS = 10


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


def calibrate(model: CNN, digits: Digits) -> float:
    """Make the softmax of ``model`` mean what it says on ``digits``; gives the temperature.

    Temperature scaling (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
    Networks", 2017): the temperature of the lowest cross-entropy, on images that the weights were
    not fitted to. The last layer is divided by it, so whatever runs the weights is calibrated.
    With fewer than FEWEST_ERRORS there is nothing to learn it from, and it stays 1.
    """
    model.eval()
    with torch.inference_mode():
        logits_BK = torch.cat([model(to_float(part)) for part in digits.images.split(1000)])
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
            logits_BK = model(to_float(batch.images.to(device))).cpu()
            loss += float(nn.functional.cross_entropy(logits_BK, batch.labels, reduction="sum"))
            cells = batch.labels * CLASSES + logits_BK.argmax(1)
            confusion += torch.bincount(cells, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    errors = len(digits) - int(confusion.trace())
    return Score(loss / len(digits), errors, len(digits), confusion.tolist())


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Images as the network takes them: uint8 as float32, 0 black to 1 white strokes."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)
