"""What an engine is: it gets images to predict, and returns predictions.

The journal, the reused rows and the report do not know which engine computed. ``local.py`` is the
engine to copy from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchdigit.batches import Predictions
from batchdigit.job import Job
from batchdigit.sources.base import Source
from batchdigit.system.stopwatch import Stopwatch


class Engine(Protocol):
    """What computes a job, with its model loaded.

    ``job`` is what it was asked to do, with what its model says of itself filled in. ``classes`` K
    is the model's number of classes. ``backend`` and ``device`` tell a person what
    computes, and on what.
    """

    job: Job
    classes: int
    backend: str
    device: str

    @property
    def binding(self) -> dict[str, Any]:
        """What predictions depend on, apart from images and how they are read: JSON data.

        The keys are the names that messages use.
        """

    def batch_size(self, source: Source) -> int:
        """How many images of ``source`` are computed at a time.

        A journal holds whole batches, because a prediction may depend on the other images in its
        batch.
        """

    def predictions(
        self, source: Source, places: NDArray[np.int64]
    ) -> AbstractContextManager[Iterator[Predictions]]:
        """A context around the work: the predictions of the images at ``places``, in order.

        ``places``, int64[N], are ascending positions in ``source``. Each of them is in exactly one
        of the predictions, even if the image failed. Called after :meth:`batch_size`.
        """

    def account(self) -> dict[str, Any]:
        """What predictions were made from, and how, once they are made: JSON data.

        An object each for ``versions``, ``model``, ``computed`` and ``reader``.
        """


OpenEngine = Callable[[Job, Stopwatch], Engine]
"""Loads what a job needs; the stopwatch measures where the time goes."""
