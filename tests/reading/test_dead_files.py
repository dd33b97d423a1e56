"""Files of a server that is gone can never be read: see tests/support/deadmount.py."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchdigit.errors import WorkerError
from batchdigit.job import Reading
from batchdigit.reading.dataset import DigitImages
from batchdigit.sources.folder import FolderSource
from batchdigit.system.processes import end_processes
from tests.reading.conftest import ReadAll
from tests.support.deadmount import dead_mount, needs_fuse
from tests.support.fakes import Unending
from tests.support.samples import files_in, save_grey

pytestmark = needs_fuse

DeadFiles = tuple[FolderSource, Callable[[], None]]


@pytest.fixture
def dead_mount_of_files(tmp_path: Path) -> Iterator[DeadFiles]:
    """Forty files on a file system that never answers when any of the last three is read."""
    originals = tmp_path / "originals"
    originals.mkdir()
    names = [f"{number:02}.png" for number in range(37)] + [f"dead{n}.png" for n in range(3)]
    for number, name in enumerate(names):
        save_grey(originals / name, seed=number)
    with dead_mount(tmp_path / "mount", originals) as wait_until_asked:
        files = files_in(tmp_path / "mount", [os.fsencode(name) for name in names])
        yield files, wait_until_asked


@pytest.fixture
def dead_files(dead_mount_of_files: DeadFiles) -> FolderSource:
    return dead_mount_of_files[0]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("workers", [1, 2])
def test_file_that_never_answers_costs_itself_only(
    dead_files: FolderSource, read_all: ReadAll, workers: int
) -> None:
    batches = read_all(
        dead_files,
        batch_size=5,
        workers=workers,
        start_method="fork",
        reading=Reading(timeout=0.5, preprocess="exact"),
    )
    failures = {failure.index: failure.text for batch in batches for failure in batch.failures}
    assert failures == dict.fromkeys((37, 38, 39), "timeout: not read within 0.5 s")
    indices = [index for batch in batches for index in batch.indices.tolist()]
    assert indices == list(range(37))
    assert multiprocessing.active_children() == []  # nobody waits for those that are left


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])  # each has its kind of workers
def test_process_that_is_left_behind_holds_no_output_open(
    dead_files: FolderSource, backend: str
) -> None:
    """Otherwise, whoever reads the run's output would wait as long as that process."""
    folder = Path(os.fsdecode(dead_files.root))
    sources = [folder / name for name in ("00.png", "01.png", "dead0.png")]
    options = ["--backend", backend, "--timeout", "0.5", "-j", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "batchdigit", "run", *sources, *options],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("\n") == 4
    assert done.stdout.count("timeout: not read within 0.5 s") == 1


def test_process_that_waits_for_such_a_file_survives_even_sigkill(
    dead_mount_of_files: DeadFiles,
) -> None:
    """What the tests above survive does happen."""
    files, wait_until_asked = dead_mount_of_files
    context = multiprocessing.get_context("fork")
    process = context.Process(target=DigitImages(files).__getitems__, args=([39],))
    process.start()
    wait_until_asked()
    process.kill()
    process.join(0.5)
    assert process.is_alive()
    multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("impatient")
def test_run_ends_when_too_many_processes_wait_for_ever(
    dead_files: FolderSource, read_all: ReadAll
) -> None:
    others = [Unending() for _ in range(7)]
    end_processes(list(others))
    try:
        with pytest.raises(WorkerError, match="file system of the source"):
            read_all(
                dead_files,
                batch_size=5,
                workers=1,
                start_method="fork",
                reading=Reading(timeout=0.5, preprocess="exact"),
            )
        assert multiprocessing.active_children() == []
    finally:
        for process in others:
            process.released = True
