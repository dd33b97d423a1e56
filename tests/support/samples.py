"""The sample digits, files of one's own making, and what tests take for granted about them."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchdigit.backends.onnx_backend import OnnxPredictor
from batchdigit.backends.torch_predictor import Predictor

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "sample_images"

Program = Callable[..., subprocess.CompletedProcess[str]]


def as_they_are(count: int) -> dict[str, np.ndarray]:
    """What a batch says of ``count`` images that nobody fitted."""
    return {
        "treatments": np.zeros(count, np.uint8),
        "ink": np.full(count, np.nan, np.float32),
    }


def age(path: Path, hours: float = 1.0) -> None:
    """Make a file older than it is: what was just written counts as unsettled."""
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def lose_the_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever predicts leaves its last batch out."""
    for predictor in (Predictor, OnnxPredictor):
        complete = predictor.predict
        monkeypatch.setattr(
            predictor,
            "predict",
            lambda self, batches, complete=complete: list(complete(self, batches))[:-1],
        )


def save_grey(path: Path, seed: int = 0, size: tuple[int, int] = (28, 28)) -> np.ndarray:
    """Write random grey pixels as an image and return them."""
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels
