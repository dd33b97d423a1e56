"""The laws of reading: every file once, in order, by workers that start and end with the reader."""

import ctypes
import multiprocessing
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from batchdigit.job import Reading
from batchdigit.models.spec import InputSpec
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.reader import Reader
from batchdigit.reading.workers import OpenWorkers
from batchdigit.sources.folder import FolderSource
from tests.reading.conftest import ReadAll, ReaderOf
from tests.support.fakes import decode_by
from tests.support.samples import files_in


@pytest.mark.parametrize(
    ("batch_size", "workers", "start_method"),
    [
        *((size, 0, None) for size in (1, 3, 100)),
        *((size, 1, "fork") for size in (1, 3, 100)),
        *((size, 2, "fork") for size in (1, 3, 100)),
        (3, 2, "spawn"),
    ],
)
def test_every_file_comes_once_in_order(
    files: FolderSource,
    read_all: ReadAll,
    batch_size: int,
    workers: int,
    start_method: str | None,
) -> None:
    batches = read_all(files, batch_size=batch_size, workers=workers, start_method=start_method)
    assert len(batches) == -(-10 // batch_size)
    seen = [
        sorted([*batch.indices.tolist(), *(failure.index for failure in batch.failures)])
        for batch in batches
    ]
    assert [index for indices in seen for index in indices] == list(range(10))


def test_workers_end_with_the_reader(many: FolderSource, reader_of: ReaderOf) -> None:
    with reader_of(many, batch_size=1, workers=2) as reader:
        next(iter(reader))
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_workers_start_with_the_reader(many: FolderSource, reader_of: ReaderOf) -> None:
    with reader_of(many, batch_size=1, workers=2):
        assert len(multiprocessing.active_children()) == 2


def test_busy_workers_are_ended_and_not_waited_for(
    tmp_path: Path, reader_of: ReaderOf, exact: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch would ask them to end, and wait for an answer."""
    (tmp_path / "large.bmp").write_bytes(b"large")
    large = files_in(tmp_path, [b"large.bmp"] * 2)
    begun = multiprocessing.get_context("fork").Semaphore(0)

    def work_for_long() -> None:
        begun.release()
        ctypes.PyDLL(None).sleep(1000)  # no other thread of the process runs meanwhile

    decode_by(monkeypatch, {b"large": work_for_long})
    with reader_of(large, batch_size=1, workers=2, start_method="fork", reading=exact):
        workers = multiprocessing.active_children()
        for _ in workers:
            assert begun.acquire(timeout=60)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2
    assert multiprocessing.active_children() == []


def test_reader_outside_its_with_block_is_an_error(
    files: FolderSource, reader_of: ReaderOf
) -> None:
    with pytest.raises(ValueError, match="with block"):
        next(iter(reader_of(files, batch_size=1, workers=0)))


def test_workers_read_though_opencv_has_threads_here(tmp_path: Path, reader_of: ReaderOf) -> None:
    """A forked process that uses its copy of OpenCV's threads hangs."""
    image = np.zeros((2000, 2000), np.uint8)
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        for _ in range(3):
            cv2.GaussianBlur(image, (9, 9), 0)
        (tmp_path / "large.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        files = files_in(tmp_path, [b"large.png"] * 4)
        with reader_of(files, batch_size=1, workers=1, start_method="fork") as reader:
            assert [failure.stage for batch in reader for failure in batch.failures] == (
                ["blank"] * 4
            )
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_another_size_come_through_workers(
    files: FolderSource, open_workers: OpenWorkers, exact: Reading, workers: int
) -> None:
    spec = InputSpec((40, 32), 3)
    digits = DigitImages(files, exact, spec)
    expected = digits.__getitems__(range(10)).images
    with Reader(digits, batch_size=3, workers=workers, open_workers=open_workers) as reader:
        batches = list(reader)
    assert {batch.images.shape[1:] for batch in batches} == {(3, 40, 32)}
    assert np.array_equal(np.concatenate([batch.images for batch in batches]), expected)


def test_image_that_kills_its_worker_costs_no_other_of_another_size(
    files: FolderSource,
    tmp_path: Path,
    exact: Reading,
    open_workers: OpenWorkers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decode_by(monkeypatch)
    (tmp_path / "05.png").write_bytes(b"abort")
    digits = DigitImages(files, replace(exact, start_method="fork"), InputSpec((40, 32), 3))
    with Reader(digits, batch_size=5, workers=1, open_workers=open_workers) as reader:
        batches = list(reader)
    assert [batch.images.shape for batch in batches] == [(4, 3, 40, 32), (3, 3, 40, 32)]
    assert [failure.index for batch in batches for failure in batch.failures] == [3, 5, 7]
