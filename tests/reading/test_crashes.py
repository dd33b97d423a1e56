"""A process that dies costs no file; a file that ends or stalls its process costs only itself."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchdigit.batches import Batch
from batchdigit.job import Reading
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.lone_reader import LoneReader
from batchdigit.reading.reader import Reader
from batchdigit.sources.folder import FolderSource
from tests.reading.conftest import ReadAll, ReaderOf
from tests.support.fakes import KILLERS, DeadlySource, decode_by
from tests.support.platforms import needs_linux
from tests.support.processes import children
from tests.support.samples import files_in, save_grey
from tests.support.waiting import wait_until_idle


def kill_workers() -> list[int]:
    """Returns whom it has killed: the workers of before may not have been replaced yet."""
    workers = children()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    return workers


@needs_linux("/proc")
@pytest.mark.parametrize(("start_method", "kills"), [("fork", 2), ("spawn", 1)])
def test_killed_workers_cost_no_file(
    many: FolderSource, reader_of: ReaderOf, exact: Reading, start_method: str, kills: int
) -> None:
    """Those that take the place of killed ones are killed, too, as soon as they are there."""
    numbers: list[int] = []
    killed: list[int] = []
    with reader_of(
        many, batch_size=1, workers=2, start_method=start_method, reading=exact
    ) as reader:
        for batch in reader:
            numbers += batch.indices.tolist()
            if len(numbers) % 30 == 0 and kills and set(children()) - set(killed):
                killed += kill_workers()
                kills -= 1
    assert kills == 0
    assert numbers == list(range(len(many)))
    assert children() == []


@needs_linux("/proc")
def test_worker_killed_in_the_middle_of_a_message_costs_no_file(
    many: FolderSource, reader_of: ReaderOf, exact: Reading
) -> None:
    """A batch of 1.2 MB does not fit into the pipe: workers wait with half of it written."""
    found = 0
    with reader_of(many, batch_size=1_500, workers=2, start_method="fork", reading=exact) as reader:
        wait_until_idle(*(worker.pid or 0 for worker in multiprocessing.active_children()))
        assert kill_workers()
        for batch in reader:
            found += len(batch)
    assert found == len(many)


@pytest.fixture
def killers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """A hundred images, among them six that end or stall the process that decodes them."""
    decode_by(monkeypatch)
    for number in range(100):
        save_grey(tmp_path / f"{number:02}.png", seed=number)
    for number, kind in zip((0, 13, 14, 57, 58, 99), KILLERS, strict=True):
        (tmp_path / f"{number:02}.png").write_bytes(kind)
    return files_in(tmp_path, [b"%02d.png" % number for number in range(100)])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 3), (7, 1), (7, 3), (100, 1)])
def test_file_that_ends_its_process_costs_itself_only(
    killers: FolderSource, tmp_path: Path, read_all: ReadAll, batch_size: int, workers: int
) -> None:
    batches = read_all(
        killers, batch_size=batch_size, workers=workers, start_method="fork",
        reading=Reading(timeout=1, preprocess="exact"),
    )  # fmt: skip
    failures = {failure.index: failure.text for batch in batches for failure in batch.failures}
    assert failures == {
        0: "decode: crashed the process that read it (SIGSEGV)",
        13: "decode: crashed the process that read it (SIGABRT)",
        14: "decode: crashed the process that read it (SIGKILL)",
        57: "decode: crashed the process that read it (exit code 7)",
        58: "timeout: not read within 1 s",
        99: "timeout: not read within 1 s",
    }
    assert [len(batch) + len(batch.failures) for batch in batches[:-1]] == [batch_size] * (
        len(batches) - 1
    )
    images = {
        index: image
        for batch in batches
        for index, image in zip(batch.indices.tolist(), batch.images, strict=True)
    }
    assert list(images) == [number for number in range(100) if number not in failures]
    for index, image in images.items():
        assert np.array_equal(image[0], save_grey(tmp_path / "again.png", seed=index))
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("impatient")
def test_only_the_batch_with_the_killer_is_read_file_by_file(
    killers: FolderSource, read_all: ReadAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_alone: list[int] = []
    read = LoneReader.read

    def counting(self: LoneReader, index: int) -> Batch:
        read_alone.append(index)
        return read(self, index)

    monkeypatch.setattr(LoneReader, "read", counting)
    places = np.array([*range(1, 13), *range(15, 60)])  # 57 and 58 are the killers among them
    batches = read_all(
        killers, batch_size=4, workers=2, start_method="fork", places=places,
        # On a busy machine, an innocent file may well take a second.
        reading=Reading(timeout=4, preprocess="exact"),
    )  # fmt: skip
    assert sum(len(batch) + len(batch.failures) for batch in batches) == len(places)
    # The killers' batches, and those that were missing when a worker died.
    assert {57, 58} <= set(read_alone)
    assert len(read_alone) <= 4 * 4


@needs_linux("/proc")
def test_file_that_ends_a_new_process_costs_itself_only(tmp_path: Path, exact: Reading) -> None:
    save_grey(tmp_path / "a.png")
    names = {b"%02d.png" % number: (tmp_path / "a.png").read_bytes() for number in range(20)}
    names |= {b"03.png": b"segfault", b"13.png": b"hang"}
    reading = replace(exact, timeout=2, start_method="spawn")
    with Reader(DigitImages(DeadlySource(names), reading), batch_size=4, workers=2) as reader:
        batches = list(reader)
    failures = {failure.index: failure.text for batch in batches for failure in batch.failures}
    assert failures == {
        3: "decode: crashed the process that read it (SIGSEGV)",
        13: "timeout: not read within 2 s",
    }
    assert sum(map(len, batches)) == 18
    assert children() == []


def test_killers_do_kill(killers: FolderSource) -> None:
    """What the tests above survive does happen."""
    context = multiprocessing.get_context("fork")
    ends = []
    for index in (0, 13, 14, 57, 58, 99):
        process = context.Process(target=DigitImages(killers).__getitems__, args=([index],))
        process.start()
        process.join(0.5 if index in (58, 99) else 60)
        ends.append(process.exitcode)
        process.kill()
        process.join()
    assert ends == [-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGKILL, 7, None, None]
