"""The sample digits, files that tests make, and what the tests take for granted about them."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batchdigit.backends.onnx_backend import OnnxPredictor
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.batches import blank_facts
from batchdigit.sources.beneath import Beneath
from batchdigit.sources.filelist import FileList
from batchdigit.sources.folder import FolderSource

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "sample_images"

Program = Callable[..., subprocess.CompletedProcess[str]]


def facts_of(treatments: Sequence[int], ink: Sequence[float]) -> np.ndarray:
    """What is known about images besides their pixels."""
    facts = blank_facts(len(treatments))
    facts["treatment"], facts["ink"] = treatments, ink
    return facts


def files_in(
    folder: Path, names: Iterable[bytes], *, follow_symlinks: bool = False
) -> FolderSource:
    """A source of files in ``folder``, which need not exist."""
    images = FileList(names)
    return FolderSource(Beneath(os.fsencode(folder), follow=follow_symlinks), images, FileList())


def refuse_to_list(closed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deny the right to list the folder ``closed``, which root has whatever the folder says."""
    entries = Beneath.entries

    def refuse(self: Beneath, folder: bytes) -> Any:
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return entries(self, folder)

    monkeypatch.setattr(Beneath, "entries", refuse)


def age(path: Path, hours: float = 1.0) -> None:
    """Make a file older than it is: one that was just written counts as unsettled."""
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def lose_the_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every predictor leave out its last batch."""
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
