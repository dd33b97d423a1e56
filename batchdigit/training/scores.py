"""How well a model reads labelled digits, and making its confidence mean what it says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from batchdigit.models.cnn import CNN
from batchdigit.models.spec import MNIST
from batchdigit.training.digits import Digits

MIN_ERRORS = 10


@dataclass(frozen=True)
class Score:
    """How well a model read labelled digits.

    ``loss`` is the mean cross-entropy; ``errors`` of ``images`` were read wrongly;
    ``confusion[truth][prediction]`` counts images.
    """

    loss: float
    errors: int
    images: int
    confusion: list[list[int]]

    @property
    def accuracy(self) -> float:
        """The share of images whose most likely class is the right one."""
        return 1 - self.errors / self.images


def calibrate(model: CNN, digits: Digits) -> float:
    """Make the softmax of ``model`` mean what it says on ``digits``; returns the temperature.

    This is temperature scaling (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
    Networks", 2017): it finds the temperature with the lowest cross-entropy, on images that the
    weights were not fitted to. The last layer is divided by it, so that whatever runs the weights
    is calibrated. With fewer than MIN_ERRORS errors there is nothing to learn the temperature from,
    and it stays 1.
    """
    model.eval()
    with torch.inference_mode():
        logits_BK = torch.cat([model(to_float(part)) for part in digits.images.split(1000)])
    logits_BK = logits_BK.clone()  # a normal tensor, which gradients can flow through
    if int((logits_BK.argmax(1) != digits.labels).sum()) < MIN_ERRORS:
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
    """Score ``model`` on labelled digits; it stays in ``eval()`` mode afterwards."""
    model.eval()
    classes = MNIST.classes
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    loss = 0.0
    with torch.inference_mode():
        for start in range(0, len(digits), 1000):
            batch = digits[start : start + 1000]
            logits_BK = model(to_float(batch.images.to(device))).cpu()
            loss += float(nn.functional.cross_entropy(logits_BK, batch.labels, reduction="sum"))
            cells = batch.labels * classes + logits_BK.argmax(1)
            confusion += torch.bincount(cells, minlength=classes**2).reshape(classes, classes)
    errors = len(digits) - int(confusion.trace())
    return Score(loss / len(digits), errors, len(digits), confusion.tolist())


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Images uint8[B, C, H, W] as the network takes them: float32, channels-last."""
    pixels_BCHW = images.to(torch.float32)
    MNIST.scale_pixels(pixels_BCHW)
    return pixels_BCHW.contiguous(memory_format=torch.channels_last)
