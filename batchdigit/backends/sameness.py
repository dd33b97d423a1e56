"""Whether two models are the same: they give a thousand digits the same probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchdigit.backends.opening import Opened
from batchdigit.batches import Batch
from batchdigit.errors import BatchdigitError
from batchdigit.models.checkpoint import Checkpoint
from batchdigit.models.digits import packaged_digits
from batchdigit.models.placing import placed_all
from batchdigit.models.spec import MNIST

TOLERANCE = 1e-5  # for a probability of the packaged kind of network
OWN_TOLERANCE = 1e-4  # of any other, whose scores may be large: as everywhere between two backends
NOISE = 1000  # images
NOTHING = "nothing was written; see that what is declared is what it was trained with"


def largest_difference(one: Opened, other: Opened, target: Path) -> float:
    """The largest difference in probability on known digits, and for one network on noise.

    Raises BatchdigitError if a label differs, or if the difference is more than rounding makes it.
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
    tolerance = TOLERANCE if isinstance(one.model, Checkpoint) else OWN_TOLERANCE
    if not largest <= tolerance:
        raise BatchdigitError(
            f"{target} would differ from {one.job.model} by up to {largest:.1e}", NOTHING
        )
    return largest


def _probabilities(opened: Opened, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32[N, K] in the order of the classes."""
    model = opened.model
    batch = Batch.of(placed_all(images, model.spec))
    (found,) = opened.backend.predictor(model, model.classes).predict([batch])
    probs = np.zeros((len(images), model.classes), np.float32)
    np.put_along_axis(probs, found.labels, found.probs, axis=1)
    return probs
