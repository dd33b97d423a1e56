"""What the tests of reading share. What needs worker processes is tested with both kinds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchdigit.batches import Batch
from batchdigit.job import Reading
from batchdigit.reading import lone_reader, pipe_workers, torch_workers
from batchdigit.reading.dataset import DEFAULT_READING, DigitImages
from batchdigit.reading.pipe_workers import PipeWorkers
from batchdigit.reading.reader import Reader
from batchdigit.reading.torch_workers import TorchWorkers
from batchdigit.reading.workers import OpenWorkers
from batchdigit.sources.folder import FolderSource
from batchdigit.system import processes
from tests.support.samples import files_in, save_grey

ReaderOf = Callable[..., Reader]
ReadAll = Callable[..., list[Batch]]


@pytest.fixture
def files(tmp_path: Path) -> FolderSource:
    """Ten images, of which the fourth is damaged and the eighth is missing."""
    names = [b"%02d.png" % number for number in range(10)]
    for number in range(10):
        save_grey(tmp_path / f"{number:02}.png", seed=number)
    (tmp_path / "03.png").write_bytes(b"damaged")
    (tmp_path / "07.png").unlink()
    return files_in(tmp_path, names)


@pytest.fixture
def exact() -> Reading:
    """How to read noise, which is no digit and cannot be fitted."""
    return Reading(preprocess="exact")


@pytest.fixture(params=[PipeWorkers, TorchWorkers])
def open_workers(request: pytest.FixtureRequest) -> OpenWorkers:
    """Each kind of worker process."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def reader_of(open_workers: OpenWorkers) -> ReaderOf:
    """Make a reader of files with these options, for each kind of worker process."""

    def make(
        files: FolderSource,
        *,
        reading: Reading = DEFAULT_READING,
        start_method: str | None = None,
        **options: object,
    ) -> Reader:
        reading = replace(reading, start_method=start_method)
        return Reader(DigitImages(files, reading), **({"open_workers": open_workers} | options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def many(tmp_path: Path) -> FolderSource:
    """More than two workers read ahead one by one: none is done before the test looks at it.

    A pipe holds a megabyte of batches of one, and as much may have been taken from it; here are
    three megabytes for each worker.
    """
    save_grey(tmp_path / "a.png")
    return files_in(tmp_path, [b"a.png"] * 6_000)


@pytest.fixture
def read_all(reader_of: ReaderOf) -> ReadAll:
    """Read all batches of some files."""

    def read(files: FolderSource, **options: object) -> list[Batch]:
        with reader_of(files, **options) as reader:
            return list(reader)

    return read


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check often on worker processes, and don't wait long for those that do not end."""
    hasty = {"SECONDS_BETWEEN_LOOKS": 0.1, "SECONDS_TO_DIE": 0.3}
    for module in (processes, pipe_workers, torch_workers, lone_reader):
        for name in hasty.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, hasty[name])
