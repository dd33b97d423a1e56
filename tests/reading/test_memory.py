"""A process that reads may take only so much memory: what needs more is one error row."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchdigit.job import Reading
from batchdigit.reading import dataset
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.pipe_workers import PipeWorkers
from batchdigit.reading.reader import Reader
from batchdigit.reading.torch_workers import TorchWorkers
from batchdigit.reading.workers import OpenWorkers
from batchdigit.sources.folder import FolderSource, open_folders
from batchdigit.system import processes
from tests.support.platforms import needs_linux


@pytest.fixture
def images(digits: Path) -> FolderSource:
    """Ten digits, and among them an image that takes a gigabyte.

    A fork may use what its parent has freed, beyond what it is allowed; that is far less.
    """
    Image.new("RGBA", (8_000, 8_000), "white").save(digits / "05-large.png")
    return open_folders([digits])


@needs_linux("a limit of a process's memory")
@pytest.mark.usefixtures("opencv_without_threads")
@pytest.mark.parametrize("open_workers", [TorchWorkers, PipeWorkers])
def test_image_that_takes_more_is_one_error_row(
    images: FolderSource, monkeypatch: pytest.MonkeyPatch, open_workers: OpenWorkers
) -> None:
    monkeypatch.setattr(dataset, "BYTES_OF_A_PIXEL", 1)
    reading = Reading(max_pixels=64_000_000, max_bytes=10_000_000, start_method="fork")
    how = DigitImages(images, reading)
    with Reader(how, batch_size=4, workers=2, open_workers=open_workers) as reader:
        batches = list(reader)
    (failure,) = (failure for batch in batches for failure in batch.failures)
    assert images.images[failure.index] == b"05-large.png"
    assert failure.stage == "too-large"
    assert "needs more memory than" in failure.text
    assert sum(map(len, batches)) == 10


def test_without_a_limit_of_its_own_a_process_may_try_again(
    images: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--update`` reads again what could not be read."""

    def fail(_data: bytes, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(dataset, "decode_image", fail)
    assert processes.memory_limit is None
    place = list(images.images).index(b"05-large.png")
    batch = DigitImages(images)[place]
    (failure,) = batch.failures
    assert failure.text == "read: not enough memory"


def test_largest_image_fits(images: FolderSource) -> None:
    """The limit leaves room for what the limits on bytes and pixels allow, and for the batch."""
    few, many = (DigitImages(images).memory(size) for size in (1, 1_000_000))
    assert few > 16 * 100_000_000 + (256 << 20)
    assert few < 2_200_000_000
    assert many - few > 4 * np.zeros((999_999, 28, 28), np.uint8).nbytes
