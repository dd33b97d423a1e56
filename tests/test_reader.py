import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from batchdigit import WorkerError
from batchdigit.filenames import FileList
from batchdigit.reader import DigitFiles, Reader
from batchdigit.records import Batch
from tests.conftest import save_grey


@pytest.fixture
def files(tmp_path: Path) -> FileList:
    """Ten images of which the fourth is damaged and the eighth is missing."""
    names = [b"%02d.png" % number for number in range(10)]
    for number in range(10):
        save_grey(tmp_path / f"{number:02}.png", seed=number)
    (tmp_path / "03.png").write_bytes(b"damaged")
    (tmp_path / "07.png").unlink()
    return FileList(os.fsencode(tmp_path), names)


def read_all(files: FileList, **options: object) -> list[Batch]:
    with Reader(files, **options) as reader:  # type: ignore[arg-type]
        return list(reader)


def test_batch_holds_what_could_be_used_and_what_failed(files: FileList) -> None:
    batch = DigitFiles(files).__getitems__(range(10))
    assert batch.indices.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert batch.indices.dtype == torch.int64
    assert batch.images.shape == (8, 1, 28, 28)
    assert batch.images.dtype == torch.uint8
    assert [(failure.index, failure.stage) for failure in batch.failures] == [
        (3, "decode"),
        (7, "read"),
    ]


def test_image_stands_at_the_place_of_its_index(files: FileList, tmp_path: Path) -> None:
    batch = DigitFiles(files).__getitems__(range(10))
    for row, index in enumerate(batch.indices.tolist()):
        expected = save_grey(tmp_path / "again.png", seed=index)
        assert np.array_equal(batch.images[row, 0].numpy(), expected)


def test_batch_may_be_empty(tmp_path: Path) -> None:
    batch = DigitFiles(FileList(os.fsencode(tmp_path), [b"a.png"]))[0]
    assert len(batch) == 0
    assert batch.images.shape == (0, 1, 28, 28)
    assert len(batch.failures) == 1


@pytest.mark.parametrize(
    ("batch_size", "workers", "start_method"),
    [
        *((size, 0, None) for size in (1, 3, 100)),
        *((size, 1, "fork") for size in (1, 3, 100)),
        *((size, 2, "fork") for size in (1, 3, 100)),
        *((3, 2, method) for method in ("spawn", "forkserver")),  # seconds to start
    ],
)
def test_every_file_comes_once_in_order(
    files: FileList, batch_size: int, workers: int, start_method: str | None
) -> None:
    batches = read_all(files, batch_size=batch_size, workers=workers, start_method=start_method)
    assert len(batches) == -(-10 // batch_size)
    seen = [
        sorted([*batch.indices.tolist(), *(failure.index for failure in batch.failures)])
        for batch in batches
    ]
    assert [index for indices in seen for index in indices] == list(range(10))


def test_unforeseen_exception_becomes_a_failure(
    files: FileList, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_image: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("batchdigit.reader.to_model_input", fail)
    batch = DigitFiles(files).__getitems__([0])
    assert batch.failures[0].text == "decode: ZeroDivisionError: surprise"


def test_workers_end_with_the_reader(files: FileList) -> None:
    with Reader(files, batch_size=1, workers=2) as reader:
        next(iter(reader))
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_workers_start_with_the_reader(files: FileList) -> None:
    with Reader(files, batch_size=1, workers=2):
        assert len(multiprocessing.active_children()) == 2


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "computing"])
def test_killed_worker_is_an_error_wherever_the_main_thread_is(tmp_path: Path, busy: bool) -> None:
    save_grey(tmp_path / "a.png")
    many = FileList(os.fsencode(tmp_path), [b"a.png"] * 20_000)
    with (
        pytest.raises(WorkerError, match="--workers 0"),
        # The parent of a forked worker learns of its death wherever it is. That of one from a
        # forkserver, which would be chosen where an earlier test left a thread, does not.
        Reader(many, batch_size=10, workers=1, start_method="fork") as reader,
    ):
        for number, _ in enumerate(reader):
            if number == 3:
                for child in multiprocessing.active_children():
                    os.kill(child.pid or 0, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while busy and number == 3:
                assert time.monotonic() < deadline, "nobody noticed that the worker died"
    assert multiprocessing.active_children() == []


def test_busy_worker_is_ended_within_moments(tmp_path: Path) -> None:
    Image.new("RGB", (9000, 9000)).save(tmp_path / "large.bmp")
    large = FileList(os.fsencode(tmp_path), [b"large.bmp"] * 50)
    with Reader(large, batch_size=50, workers=2):
        time.sleep(1)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start_are_an_error_and_leave_none(tmp_path: Path) -> None:
    code = (
        "import resource, pathlib, multiprocessing, torch, batchdigit\n"
        "from batchdigit.reader import Reader\n"
        "from batchdigit.filenames import FileList\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))\n"
        "try:\n"
        "    with Reader(FileList(b'/', [b'a.png'] * 99), batch_size=1, workers=20): pass\n"
        "except batchdigit.WorkerError as error: print(error)\n"
        "print(multiprocessing.active_children())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "cannot start 20 processes" in done.stdout
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize(("threads", "method"), [(0, "fork"), (1, "forkserver")])
def test_fork_is_chosen_only_without_other_threads(threads: int, method: str) -> None:
    code = (
        "import threading, time\n"
        "from batchdigit.reader import default_start_method\n"
        f"for _ in range({threads}): threading.Thread(target=time.sleep, args=[1]).start()\n"
        "print(default_start_method())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{method}\n"


def test_reader_outside_its_with_block_is_an_error(files: FileList) -> None:
    with pytest.raises(ValueError, match="with block"):
        next(iter(Reader(files, batch_size=1, workers=0)))
