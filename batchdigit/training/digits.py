"""Labelled digits in memory: MNIST's files, or one folder for each digit."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from batchdigit.errors import ImageError, SourceError, WorkerError
from batchdigit.images.fit import fit
from batchdigit.job import Reading
from batchdigit.models.spec import MNIST
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.reader import Reader
from batchdigit.reading.startup import choose_start_method, one_thread, settle_in
from batchdigit.reading.torch_workers import TorchWorkers
from batchdigit.sources.folder import FolderSource, open_folders
from batchdigit.sources.missing import meant_by
from batchdigit.system.machine import available_cores
from batchdigit.system.processes import starting_processes
from batchdigit.system.words import counted
from batchdigit.training.variants import variant

MNIST_VALIDATION = 5_000
VARIANTS_AT_ONCE = 500
FOLDER_SHARE = 10  # one image in ten of a labelled folder is for validation, and one for the test


@dataclass(frozen=True)
class Digits:
    """Labelled images: ``images`` uint8[N, 1, 28, 28], ``labels`` int64[N]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: slice | torch.Tensor) -> Digits:
        return Digits(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Splits:
    """Disjoint images: to fit the weights to, to choose the best ones by, and to test once."""

    train: Digits
    validation: Digits
    test: Digits
    description: str

    def sha256(self) -> str:
        """A digest of every image and label, split by split."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            digest.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
        return digest.hexdigest()


def load_splits(data: Path, *, download: bool, seed: int, preprocess: str = "auto") -> Splits:
    """The digits at ``data``, split the same way every time.

    Of MNIST, as ``torchvision.datasets.MNIST`` reads it, the last 5,000 training images are for
    validation and the 10,000 test images for the test. Of a labelled folder (``0/`` to ``9/`` with
    images below them, which ``preprocess`` brings to 28x28), a tenth is for validation and a tenth
    for the test, drawn by ``seed``.

    Raises SourceError where ``data`` is neither, or has too few images or one that is damaged.
    """
    if download or (data / "MNIST" / "raw").is_dir():
        return _load_mnist(data, download)
    if data.is_dir() and any((data / str(digit)).is_dir() for digit in range(MNIST.classes)):
        return _load_folder(data, seed, Reading(preprocess=preprocess))
    if not data.exists():
        problem, remedy = meant_by(str(data)) or (
            f"there is no folder {data}",
            "name the folder of the images, or add --download to fetch MNIST into it",
        )
        raise SourceError(problem, remedy)
    raise SourceError(
        f"{data} holds neither MNIST (MNIST/raw/) nor one folder for each digit (0/ to 9/)",
        "name another folder, or let --download fetch MNIST into this one",
    )


def _load_mnist(data: Path, download: bool) -> Splits:
    # Imported here: only training needs torchvision, and it takes seconds.
    from torchvision import datasets

    try:
        parts = [datasets.MNIST(data, train=train, download=download) for train in (True, False)]
        training = _checked(parts[0], MNIST_VALIDATION + 1)
        test = _checked(parts[1], 1)
    except Exception as error:  # whatever torchvision raises for files that are not MNIST's
        raise SourceError(
            f"cannot load MNIST from {data}: {error}",
            "let --download fetch it, or put its four files into MNIST/raw there",
        ) from error
    return Splits(
        training[:-MNIST_VALIDATION],
        training[-MNIST_VALIDATION:],
        test,
        f"MNIST: the training images but the last {MNIST_VALIDATION}, which are for validation",
    )


def _checked(part: Any, least: int) -> Digits:
    """A part of MNIST, which must have at least ``least`` images; raises ValueError for others."""
    images, labels = part.data, part.targets
    if len(images) < least:
        raise ValueError(f"{counted(len(images), 'image')} instead of {least} or more")
    if images.dtype != torch.uint8 or images.shape[1:] != MNIST.plane:
        raise ValueError(f"images of {images.dtype} and the shape {tuple(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{counted(len(images), 'image')}, but {counted(len(labels), 'label')}")
    labels = labels.to(torch.int64)
    if not bool(((labels >= 0) & (labels < MNIST.classes)).all()):
        raise ValueError(f"labels other than 0 to {MNIST.classes - 1}")
    return Digits(images.unsqueeze(1), labels)


def _load_folder(data: Path, seed: int, reading: Reading) -> Splits:
    folders = [data / str(digit) for digit in range(MNIST.classes)]
    parts = [
        _read_labelled(open_folders([folder]), int(folder.name), reading)
        for folder in folders
        if folder.is_dir()
    ]
    digits = Digits(
        torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    )
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))
    share = len(digits) // FOLDER_SHARE
    if share == 0:
        raise SourceError(
            f"{data} holds {counted(len(digits), 'usable image')}, "
            "too few to fit, choose and test with",
            f"give at least {FOLDER_SHARE}",
        )
    return Splits(
        digits[order[2 * share :]],
        digits[order[:share]],
        digits[order[share : 2 * share]],
        f"{len(digits)} labelled images, a tenth for validation and a tenth for the test",
    )


def _read_labelled(source: FolderSource, label: int, reading: Reading) -> Digits:
    images = [torch.empty(0, *MNIST.shape, dtype=torch.uint8)]
    workers = min(available_cores(), len(source) // 1000)
    images_of = DigitImages(source, reading)
    with Reader(images_of, batch_size=256, workers=workers, open_workers=TorchWorkers) as reader:
        for batch in reader:
            for failure in batch.failures:
                name = os.fsdecode(source.path(failure.index))
                raise SourceError(
                    f"cannot train on {name}: {failure.text}",
                    "repair the file or remove it from the folder",
                )
            images.append(torch.from_numpy(batch.images))
    return Digits(torch.cat(images), torch.full((len(source),), label))


def join(one: Digits, other: Digits) -> Digits:
    """The images of one and then those of the other."""
    return Digits(torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels]))


def variants_of(digits: Digits, seed: int) -> Digits:
    """Each image in another hand and on other paper, fitted to 28x28 as a run would fit it.

    The few variants without any strokes that can be found are replaced by the image itself. The
    same ``seed`` gives the same variants. Raises WorkerError where processes cannot be started or
    are killed.
    """
    parts = [
        (part.images[:, 0].numpy(), part.labels.tolist(), (seed, start))
        for start in range(0, len(digits), VARIANTS_AT_ONCE)
        if (part := digits[start : start + VARIANTS_AT_ONCE])
    ]
    images = digits.images.clone()
    for (_, _, (_, start)), fitted in zip(parts, _in_processes(parts), strict=True):
        images[start : start + len(fitted), 0] = torch.from_numpy(fitted)
    return Digits(images, digits.labels)


_Part = tuple[NDArray[np.uint8], list[int], tuple[int, int]]


def _in_processes(parts: list[_Part]) -> Iterator[NDArray[np.uint8]]:
    if len(parts) < 2:
        yield from map(_fitted_variants, parts)
        return
    context = multiprocessing.get_context(choose_start_method(None))
    with one_thread:
        with starting_processes():
            pool = ProcessPoolExecutor(available_cores(), context, initializer=settle_in)
        try:
            with starting_processes():
                fitted = pool.map(_fitted_variants, parts)
            yield from fitted
        except (BrokenProcessPool, OSError) as error:
            raise WorkerError(
                f"the processes that make variants failed: {error}", "run again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _fitted_variants(part: _Part) -> NDArray[np.uint8]:
    """Images uint8[N, 28, 28]."""
    images, labels, seed = part
    random = np.random.default_rng(seed)
    fitted: NDArray[np.uint8] = images.copy()
    for place, label in enumerate(labels):
        with contextlib.suppress(ImageError):  # blank
            fitted[place] = fit(variant(images[place], label, random)).pixels
    return fitted
