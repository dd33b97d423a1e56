"""Whether two models are the same: they give a thousand digits the same probabilities."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from batchdigit.backends.opening import Opened
from batchdigit.backends.outputs import scores_in
from batchdigit.backends.own_model import ANYTHING, OwnModel
from batchdigit.backends.torch_predictor import probabilities_of
from batchdigit.batches import Batch
from batchdigit.errors import BatchdigitError
from batchdigit.models.checkpoint import Checkpoint
from batchdigit.models.digits import packaged_digits
from batchdigit.models.placing import placed_all
from batchdigit.models.spec import MNIST

TOLERANCE = 1e-5  # for a probability
# Single precision itself moves the probabilities of some networks by more. The same sums in another
# order may then differ by a small multiple of that.
ROUNDINGS = 4
NOISE = 1000  # images
NOTHING = "nothing was written; see that what is declared is what it was trained with"


def largest_difference(one: Opened, other: Opened, target: Path) -> float:
    """The largest difference in probability on known digits, and for one network on noise.

    Raises BatchdigitError if a label differs, or if the difference is more than TOLERANCE and more
    than rounding in single precision explains.
    """
    digits = packaged_digits()
    random = np.random.default_rng(0).integers(0, 256, (NOISE, *MNIST.shape), dtype=np.uint8)
    sets = [digits, random] if isinstance(other.model, Checkpoint) else [digits]
    largest = 0.0
    for images in sets:
        ours, theirs = _probabilities(one, images), _probabilities(other, images)
        if ours.shape != theirs.shape:
            raise BatchdigitError(f"{target} would have other classes", NOTHING)
        largest = max(largest, float(abs(ours - theirs).max()))
        if images is digits and (ours.argmax(axis=1) != theirs.argmax(axis=1)).any():
            raise BatchdigitError(f"{target} would give other labels", NOTHING)
    if not largest <= TOLERANCE and not largest <= ROUNDINGS * _rounding(one.model, digits):
        raise BatchdigitError(
            f"{target} would differ from {one.job.model} by up to {largest:.1e}", NOTHING
        )
    return largest


def _rounding(model: Any, images: NDArray[np.uint8]) -> float:
    """How far single precision moves the probabilities of a user's network; 0 if unknown."""
    if not isinstance(model, OwnModel):
        return 0.0
    found = []
    for dtype in (torch.float32, torch.float64):
        try:
            module = copy.deepcopy(model.module).to(dtype)
            pixels = torch.from_numpy(placed_all(images, model.spec)).to(dtype)
            with torch.inference_mode():
                outputs = module(model.spec.prepare(pixels).contiguous())
            scores = scores_in(outputs, model.output, len(images)).double()
        except ANYTHING:  # it may know single precision alone
            return 0.0
        found.append(probabilities_of(scores, model.spec.scores))
    return float(abs(found[0] - found[1]).max())


def _probabilities(opened: Opened, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32[N, K] in the order of the classes."""
    model = opened.model
    batch = Batch.of(placed_all(images, model.spec))
    (found,) = opened.backend.predictor(model, model.classes).predict([batch])
    probs = np.zeros((len(images), model.classes), np.float32)
    np.put_along_axis(probs, found.labels, found.probs, axis=1)
    return probs
