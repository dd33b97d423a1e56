"""What an engine is: it gets images to predict, and gives predictions.

The journal, the rows that are reused, and the report do not know who computed. ``local.py`` is
the engine to copy from.
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

    ``classes`` K is the number of classes of the model; ``backend`` and ``device`` say by what and
    on what it computes, for a person.
    """

    classes: int
    backend: str
    device: str

    @property
    def binding(self) -> dict[str, Any]:
        """What predictions depend on besides images and how they are read: JSON data.

        Each under the name that it has in a message.
        """

    def batch_size(self, source: Source) -> int:
        """How many images of ``source`` are computed at a time.

        A journal holds whole batches, because predictions may depend on what they were computed
        beside.
        """

    def predictions(
        self, source: Source, places: NDArray[np.int64]
    ) -> AbstractContextManager[Iterator[Predictions]]:
        """Around the work: the predictions of the images at ``places``, in their order.

        ``places`` int64[N] are ascending positions in ``source``; each of them is in exactly one
        of the predictions, also where it failed. Asked for after :meth:`batch_size`.
        """

    def account(self) -> dict[str, Any]:
        """From what predictions are made and how, once they are: JSON data for the account."""


OpenEngine = Callable[[Job, Stopwatch], Engine]
"""Loads what a job needs; the stopwatch tells where the time goes."""
