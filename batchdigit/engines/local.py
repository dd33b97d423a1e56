"""The local engine: this process computes, and worker processes read."""

from __future__ import annotations

import contextlib
import logging
import math
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.auto import choose_batch_size, choose_reader, choose_workers, seconds_to_read
from batchdigit.backends.base import Predictor
from batchdigit.backends.choice import open_backend
from batchdigit.backends.opening import load_model, read_described_model
from batchdigit.batches import Batch, Predictions
from batchdigit.job import Job
from batchdigit.models.weights import unknown_names
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.reader import Reader
from batchdigit.reports.fitted_images import save_images
from batchdigit.sources.base import Source
from batchdigit.system.stopwatch import Stopwatch
from batchdigit.version import versions

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from batchdigit.backends.known_digits import KnownDigits


class LocalEngine:
    """Computes with a backend in this process.

    Raises CheckpointError, UsageError, DeviceError or BatchdigitError if it cannot compute ``job``.
    """

    def __init__(self, job: Job, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        with stopwatch.stage("load"):
            job, file, self._declared_by = read_described_model(job)
        with stopwatch.stage("import"):
            self._backend = open_backend(job, file)
        with stopwatch.stage("load"):
            opened = load_model(job, file, self._backend)
        self._opened = opened
        self.job, self._model = opened.job, opened.model
        if self._model.unknown:
            _LOG.warning("%s", unknown_names(self.job.model, self._model.unknown))
        self.classes: int = self._model.classes
        self.backend = self._backend.name
        self.device = self._backend.device
        # The margin needs the second likeliest label, too.
        self._k = self.classes if job.probs else min(max(job.topk, 2), self.classes)
        self._seconds = 0.0
        self._batch_size, self._batch_size_by = 0, ""
        self._reader: Reader | None = None
        self._known_digits: KnownDigits | None = None

    @property
    def binding(self) -> dict[str, Any]:
        """What predictions depend on, apart from images and how they are read: JSON data."""
        return {
            "--backend": self.backend,
            "versions": versions(self.backend),
            "model": self._model.sha256,
            **({"--key": self._model.key} if self._model.key else {}),
            "device": self.device,
            # Another kind of processor adds in another order, and so rounds differently.
            "processor": self._backend.processor,
            "--precision": self._backend.precision,
            "the declared input": self._model.spec.text,
            **self._network(),
            "--topk or --probs": self._k,
        }

    def _network(self) -> dict[str, str]:
        """Which code of the user's computes."""
        if self.job.network is None:  # a module in memory has a source nevertheless
            return {"--network": self._model.source} if self._model.source else {}
        from batchdigit.networks.naming import told_apart

        return told_apart(self.job.network, self.job.network_args, self._model.source)

    def batch_size(self, source: Source) -> int:
        """How many images of ``source`` are computed at a time."""
        with self._stopwatch.stage("list"):
            self._seconds = seconds_to_read(self.job, source)
        with self._stopwatch.stage("load"):  # it may have to be measured
            self._batch_size, self._batch_size_by = choose_batch_size(
                self.job, self._backend, self._model, self._seconds, len(source)
            )
        return self._batch_size

    def reader(self, source: Source, places: NDArray[np.int64]) -> Reader:
        """A reader of the images at ``places``, in batches of :meth:`batch_size`."""
        if not self._batch_size:
            self.batch_size(source)
        batches = math.ceil(len(places) / self._batch_size)
        self._reader = Reader(
            DigitImages(source, self.job.reading, self._model.spec),
            batch_size=self._batch_size,
            workers=choose_workers(
                self.job, self._backend, self._seconds, count=len(places), batches=batches
            ),
            places=places,
            open_workers=choose_reader(self._backend),
        )
        return self._reader

    def predictor(self) -> Predictor:
        """A predictor of batches, with the model on its device."""
        return self._backend.predictor(self._model, self._k)

    @contextlib.contextmanager
    def predictions(
        self, source: Source, places: NDArray[np.int64]
    ) -> Iterator[Iterator[Predictions]]:
        """A context around the work: the predictions of the images at ``places``, in order."""
        with contextlib.ExitStack() as reading:
            with self._stopwatch.stage("start"):
                reader = reading.enter_context(self.reader(source, places))
            with self._stopwatch.stage("load"):
                predictor = self.predictor()
                # While the workers read the first images: computing first could start threads.
                self._check(predictor)
            yield self._computed(self._read(reader), source, predictor)
            with self._stopwatch.stage("end"):
                reading.close()

    def _check(self, predictor: Predictor) -> None:
        """Warn of a model that reads known digits badly."""
        if self.job.is_packaged_model:
            return
        from batchdigit.backends.known_digits import check_model, warn  # only other models need it

        self._known_digits = check_model(self._opened, predictor)
        warn(self._opened, self._known_digits)

    def _computed(
        self, batches: Iterator[Batch], source: Source, predictor: Predictor
    ) -> Iterator[Predictions]:
        if self.job.save_fitted is not None:
            saved = save_images(batches, source.images, self.job.save_fitted, force=self.job.force)
            batches = self._stopwatch.each("save", saved)
        return self._stopwatch.each("predict", predictor.predict(batches))

    def _read(self, reader: Reader) -> Iterator[Batch]:
        for number, batch in enumerate(self._stopwatch.each("read", reader)):
            if not number:
                # What the first batch took beyond its reading, the workers took to start.
                waited = self._stopwatch.seconds()["read"]
                late = max(waited - sum(batch.busy.values()), 0.0)
                self._stopwatch.shift("read", "start", late)
            yield batch

    def account(self) -> dict[str, Any]:
        """What predictions were made from, and how, once they are made: JSON data."""
        return {
            "versions": versions(self.backend) | {"python": platform.python_version()},
            "model": {
                "path": str(self.job.model),
                "sha256": self._model.sha256,
                **({"key": self._model.key} if self._model.key else {}),
                "kind": self._model.kind,
                "format": self._model.format,
                "classes": self.classes,
                **({"network": self.job.network} if self.job.network else {}),
                **({"network_sha256": self._model.source} if self._model.source else {}),
                **self._model.spec.declaration.given(),
                "declared_by": list(self._declared_by),
                "adds_up": self._model.adds_up,
                "known_digits": self._known_digits.as_json() if self._known_digits else None,
            },
            "computed": {
                "backend": self.backend,
                "device": self.device,
                "precision": self._backend.precision,
                **self._backend.details(),
            },
            "reader": {
                "batch_size": self._batch_size,
                "batch_size_by": self._batch_size_by,
                "workers": self._reader.workers if self._reader else None,
                "start_method": self._reader.start_method if self._reader else None,
                "how": self._reader.how if self._reader else None,
            },
        }
