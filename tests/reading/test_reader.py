import ctypes
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from batchdigit.batches import Batch, Digit
from batchdigit.errors import ImageError, StoppedBySignal, WorkerError
from batchdigit.images.decode import decode_image, strict_pillow
from batchdigit.images.preprocess import to_model_input
from batchdigit.job import PREPROCESSING, Reading
from batchdigit.models.digits import packaged_digits
from batchdigit.reading import dataset, pipe_workers, torch_workers
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.lone_reader import LoneReader
from batchdigit.reading.pipe_workers import PipeWorkers
from batchdigit.reading.reader import Reader
from batchdigit.reading.torch_workers import TorchWorkers
from batchdigit.reading.workers import OpenWorkers
from batchdigit.sources.contents import read_file
from batchdigit.sources.folder import FolderSource
from batchdigit.system.signals import signals_as_exceptions
from tests.support.deadmount import dead_mount, needs_fuse
from tests.support.samples import files_in, save_grey


@pytest.fixture
def files(tmp_path: Path) -> FolderSource:
    """Ten images of which the fourth is damaged and the eighth is missing."""
    names = [b"%02d.png" % number for number in range(10)]
    for number in range(10):
        save_grey(tmp_path / f"{number:02}.png", seed=number)
    (tmp_path / "03.png").write_bytes(b"damaged")
    (tmp_path / "07.png").unlink()
    return files_in(tmp_path, names)


EXACT = Reading(preprocess="exact")  # noise is no digit that could be fitted


@pytest.fixture(params=[PipeWorkers, TorchWorkers], autouse=True)
def open_workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> OpenWorkers:
    """Whatever is read by processes here is read by both kinds."""
    monkeypatch.setitem(Reader.__init__.__kwdefaults__, "open_workers", request.param)
    return request.param  # type: ignore[no-any-return]


def import_line(open_workers: Any) -> str:
    return f"from {open_workers.__module__} import {open_workers.__name__}\n"


def read_all(
    source: FolderSource,
    *,
    start_method: str | None = None,
    reading: Reading = EXACT,
    **options: object,
) -> list[Batch]:
    reading = replace(reading, start_method=start_method)
    with Reader(source, reading=reading, **options) as reader:  # type: ignore[arg-type]
        return list(reader)


def test_batch_holds_what_could_be_used_and_what_failed(files: FolderSource) -> None:
    batch = DigitImages(files, EXACT).__getitems__(range(10))
    assert batch.indices.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert batch.indices.dtype == np.int64
    assert batch.images.shape == (8, 1, 28, 28)
    assert batch.images.dtype == np.uint8
    assert [(failure.index, failure.stage) for failure in batch.failures] == [
        (3, "decode"),
        (7, "read"),
    ]


def test_image_stands_at_the_place_of_its_index(files: FolderSource, tmp_path: Path) -> None:
    batch = DigitImages(files, EXACT).__getitems__(range(10))
    for row, index in enumerate(batch.indices.tolist()):
        expected = save_grey(tmp_path / "again.png", seed=index)
        assert np.array_equal(batch.images[row, 0], expected)


def test_batch_may_be_empty(tmp_path: Path) -> None:
    batch = DigitImages(files_in(tmp_path, [b"a.png"]))[0]
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
    files: FolderSource, batch_size: int, workers: int, start_method: str | None
) -> None:
    batches = read_all(files, batch_size=batch_size, workers=workers, start_method=start_method)
    assert len(batches) == -(-10 // batch_size)
    seen = [
        sorted([*batch.indices.tolist(), *(failure.index for failure in batch.failures)])
        for batch in batches
    ]
    assert [index for indices in seen for index in indices] == list(range(10))


def test_unforeseen_exception_becomes_a_failure(
    files: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_image: object, _how: str) -> None:
        raise ZeroDivisionError("surprise")

    for function in ("to_model_input", "to_grey"):
        with monkeypatch.context() as patched:
            patched.setattr(f"batchdigit.reading.dataset.{function}", fail)
            batch = DigitImages(files).__getitems__([0])
            assert batch.failures[0].text == "decode: ZeroDivisionError: surprise"


@pytest.mark.parametrize("how", PREPROCESSING)
def test_image_of_a_batch_is_what_it_is_by_itself(how: str, tmp_path: Path) -> None:
    digits = packaged_digits()[:60, 0]
    random = np.random.default_rng(2)
    pictures: dict[str, Image.Image] = {}
    for number, digit in enumerate(digits):
        image = Image.fromarray(digit)
        pictures |= {
            f"{number}.png": image,
            f"{number}.bmp": image,  # not by the short way
            f"{number}-rgb.png": image.convert("RGB"),
            f"{number}-dark.png": Image.fromarray(~digit),
            f"{number}-moved.png": Image.fromarray(
                np.roll(digit, random.integers(-4, 5, 2), (0, 1))
            ),
            f"{number}-large.png": image.resize((70, 60)),
            f"{number}-blank.png": Image.new("L", (28, 28), number),
            f"{number}-noise.png": Image.fromarray(
                random.integers(0, 256, (28, 28), dtype=np.uint8)
            ),
        }
    for name, image in pictures.items():
        image.save(tmp_path / name)
        if random.integers(6) == 0:
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-30])
    names = sorted([*pictures, "missing.png"])
    expected: list[Digit | str] = []
    for name in names:
        try:
            with strict_pillow():
                image = decode_image(read_file(os.fsencode(tmp_path / name)))
            expected.append(to_model_input(image, how))
        except ImageError as error:
            expected.append(f"{error.stage}: {error.message}")
    files = files_in(tmp_path, map(os.fsencode, names))
    batch = DigitImages(files, Reading(preprocess=how)).__getitems__(range(len(names)))
    found: list[object] = [None] * len(names)
    for failure in batch.failures:
        found[failure.index] = failure.text
    for row, index in enumerate(batch.indices.tolist()):
        found[index] = batch.images[row, 0], *batch.facts[row]
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, Digit):
            assert isinstance(one, tuple)
            assert np.array_equal(one[0], other.pixels)
            assert one[1] == other.treatment
            assert np.array_equal(one[2], np.float32(other.ink), equal_nan=True)
        else:
            assert one == other
    assert {failure.stage for failure in batch.failures} >= {"read", "decode"}
    assert np.all(np.diff(batch.indices) > 0)
    assert batch.failures == tuple(sorted(batch.failures, key=lambda failure: failure.index))


def test_workers_end_with_the_reader(files: FolderSource) -> None:
    with Reader(files, batch_size=1, workers=2) as reader:
        next(iter(reader))
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


def test_workers_start_with_the_reader(files: FolderSource) -> None:
    with Reader(files, batch_size=1, workers=2):
        assert len(multiprocessing.active_children()) == 2


def kill_workers() -> None:
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_killed_workers_cost_no_file(tmp_path: Path, start_method: str) -> None:
    save_grey(tmp_path / "a.png")
    many = files_in(tmp_path, [b"a.png"] * 5_000)
    numbers: list[int] = []
    with Reader(
        many, batch_size=10, workers=2, reading=Reading(start_method=start_method)
    ) as reader:
        for batch in reader:
            numbers += batch.indices.tolist()
            if len(numbers) in (30, 2_000):
                kill_workers()
    assert numbers == list(range(5_000))
    assert multiprocessing.active_children() == []


def test_worker_killed_in_the_middle_of_a_message_costs_no_file(tmp_path: Path) -> None:
    """A batch of 4 MB does not fit into the pipe: workers wait there, with half of it written."""
    save_grey(tmp_path / "a.png")
    many = files_in(tmp_path, [b"a.png"] * 20_000)
    found = 0
    with Reader(many, batch_size=5_000, workers=2, reading=Reading(start_method="fork")) as reader:
        time.sleep(3)  # for both to have read a batch
        kill_workers()
        for batch in reader:
            found += len(batch)
    assert found == 20_000


KILLERS = {
    b"segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"abort": lambda: os.kill(os.getpid(), signal.SIGABRT),
    b"out of memory": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"exit": lambda: os._exit(7),
    b"hang": lambda: time.sleep(1000),
    # No other thread of the process runs meanwhile.
    b"hang in C": lambda: ctypes.PyDLL(None).sleep(1000),
}


@pytest.fixture
def killers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSource:
    """A hundred images, among them six that end or stall the process that decodes them."""
    decode = dataset.decode_image

    def decode_or_die(data: bytes, *, enough: int | None) -> Image.Image:
        KILLERS.get(data, lambda: None)()
        return decode(data, enough=enough)

    monkeypatch.setattr(dataset, "decode_image", decode_or_die)
    for number in range(100):
        save_grey(tmp_path / f"{number:02}.png", seed=number)
    for number, kind in zip((0, 13, 14, 57, 58, 99), KILLERS, strict=True):
        (tmp_path / f"{number:02}.png").write_bytes(kind)
    return files_in(tmp_path, [b"%02d.png" % number for number in range(100)])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_file_that_ends_its_process_costs_itself_only(
    killers: FolderSource, tmp_path: Path, workers: int, batch_size: int
) -> None:
    batches = read_all(
        killers, batch_size=batch_size, workers=workers, start_method="fork",
        reading=Reading(timeout=2, preprocess="exact"),
    )  # fmt: skip
    failures = {failure.index: failure.text for batch in batches for failure in batch.failures}
    assert failures == {
        0: "decode: crashed the process that read it (SIGSEGV)",
        13: "decode: crashed the process that read it (SIGABRT)",
        14: "decode: crashed the process that read it (SIGKILL)",
        57: "decode: crashed the process that read it (exit code 7)",
        58: "timeout: not read within 2 s",
        99: "timeout: not read within 2 s",
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


def test_only_the_batch_with_the_killer_is_read_file_by_file(
    killers: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_alone: list[int] = []
    read = LoneReader.read

    def counting(self: LoneReader, index: int) -> Batch:
        read_alone.append(index)
        return read(self, index)

    monkeypatch.setattr(LoneReader, "read", counting)
    places = np.array([*range(1, 13), *range(15, 60)])  # of the killers, 57 and 58 are among them
    batches = read_all(
        killers, batch_size=4, workers=2, start_method="fork", places=places,
        reading=Reading(timeout=1, preprocess="exact"),
    )  # fmt: skip
    assert sum(len(batch) + len(batch.failures) for batch in batches) == len(places)
    # Theirs, and those that nobody had when a process died.
    assert {57, 58} <= set(read_alone)
    assert len(read_alone) <= 4 * 4


def test_killers_do_kill(killers: FolderSource) -> None:
    """What the test above shows to be survived does happen."""
    context = multiprocessing.get_context("fork")
    ends = []
    for index in (0, 13, 14, 57, 58, 99):
        process = context.Process(target=DigitImages(killers).__getitems__, args=([index],))
        process.start()
        process.join(2 if index in (58, 99) else 60)
        ends.append(process.exitcode)
        process.kill()
        process.join()
    assert ends == [-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGKILL, 7, None, None]


@pytest.fixture
def dead_files(tmp_path: Path) -> Iterator[FolderSource]:
    """Forty files on a file system that never answers when one of three of them is read."""
    originals = tmp_path / "originals"
    originals.mkdir()
    names = [f"{number:02}.png" for number in range(37)] + [f"dead{n}.png" for n in range(3)]
    for number, name in enumerate(names):
        save_grey(originals / name, seed=number)
    with dead_mount(tmp_path / "mount", originals):
        yield files_in(tmp_path / "mount", [os.fsencode(name) for name in names])


@needs_fuse
@pytest.mark.parametrize("workers", [1, 2])
def test_file_that_never_answers_costs_itself_only(dead_files: FolderSource, workers: int) -> None:
    batches = read_all(
        dead_files, batch_size=5, workers=workers, start_method="fork", reading=Reading(timeout=1)
    )
    failures = {failure.index: failure.text for batch in batches for failure in batch.failures}
    assert failures == dict.fromkeys((37, 38, 39), "timeout: not read within 1 s")
    indices = [index for batch in batches for index in batch.indices.tolist()]
    assert indices == list(range(37))
    assert multiprocessing.active_children() == []  # nobody waits for those that are left


@needs_fuse
def test_process_that_is_left_behind_holds_no_output_open(dead_files: FolderSource) -> None:
    """Whoever reads what the run prints would wait with it."""
    folder = os.fsdecode(dead_files.root)
    done = subprocess.run(
        [sys.executable, "-m", "batchdigit", "run", folder, "--timeout", "1", "-j", "1"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("\n") == 41
    assert done.stdout.count("timeout: not read within 1 s") == 3


@needs_fuse
def test_process_that_waits_for_such_a_file_does_not_even_end_by_sigkill(
    dead_files: FolderSource,
) -> None:
    """What the test above shows to be survived does happen."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=DigitImages(dead_files).__getitems__, args=([39],))
    process.start()
    time.sleep(1)
    process.kill()
    process.join(1)
    assert process.is_alive()
    multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]


@needs_fuse
def test_run_ends_when_too_many_processes_wait_for_ever(
    dead_files: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchdigit.system.processes.MAX_LEFT_BEHIND", 2)
    with pytest.raises(WorkerError, match="file system of the source"):
        read_all(
            dead_files, batch_size=5, workers=1, start_method="fork", reading=Reading(timeout=1)
        )
    assert multiprocessing.active_children() == []


def test_workers_end_with_a_killed_parent(tmp_path: Path, open_workers: Any) -> None:
    save_grey(tmp_path / "a.png")
    code = import_line(open_workers) + (
        "import multiprocessing, os, signal, sys\n"
        "from batchdigit.job import Reading\n"
        "from batchdigit.reading.reader import Reader\n"
        "from tests.support.samples import files_in\n"
        "if __name__ == '__main__':\n"
        "    files = files_in(sys.argv[1], [b'a.png'] * 1_000_000)\n"
        "    with Reader(files, batch_size=500_000, workers=2,\n"
        "                reading=Reading(start_method=sys.argv[2]),\n"
        f"                open_workers={open_workers.__name__}):\n"
        "        print(*[child.pid for child in multiprocessing.active_children()], flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "run.py").write_text(code)
    for start_method in ("fork", "forkserver"):
        done = subprocess.run(
            [sys.executable, tmp_path / "run.py", tmp_path, start_method],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL
        workers = [int(pid) for pid in done.stdout.split()]
        assert len(workers) == 2
        deadline = time.monotonic() + 10
        while any(map(is_alive, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_busy_worker_is_ended_within_moments(tmp_path: Path) -> None:
    Image.new("RGB", (9000, 9000)).save(tmp_path / "large.bmp")
    large = files_in(tmp_path, [b"large.bmp"] * 50)
    with Reader(large, batch_size=50, workers=2):
        time.sleep(1)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert multiprocessing.active_children() == []


def test_workers_that_cannot_start_are_an_error_and_leave_none(
    tmp_path: Path, open_workers: Any
) -> None:
    code = import_line(open_workers) + (
        "import resource, pathlib, multiprocessing, torch, batchdigit\n"
        "from batchdigit.reading.reader import Reader\n"
        "from tests.support.samples import files_in\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))\n"
        "try:\n"
        "    with Reader(files_in('/', [b'a.png'] * 99), batch_size=1, workers=20,\n"
        f"                open_workers={open_workers.__name__}): pass\n"
        "except batchdigit.WorkerError as error: print(error)\n"
        "print(multiprocessing.active_children())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "cannot start 20 worker processes" in done.stdout
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize("open_workers", [TorchWorkers], indirect=True)  # the other has no threads
@pytest.mark.parametrize("kind", ["_watch_over", "QueueFeederThread"])
def test_threads_that_cannot_start_are_an_error_and_leave_no_worker(
    files: FolderSource,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    """As in a container with a limit of processes."""
    start = threading.Thread.start

    def start_or_fail(self: threading.Thread) -> None:
        if kind in self.name:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    with pytest.raises(WorkerError, match="new thread"):
        read_all(files, batch_size=1, workers=2, start_method="fork")
    gc.collect()
    assert multiprocessing.active_children() == []
    assert capfd.readouterr().err == ""
    assert signal.getsignal(signal.SIGCHLD) is not torch_workers._do_nothing


@pytest.mark.parametrize(("threads", "method"), [(0, "fork"), (1, "forkserver")])
def test_fork_is_chosen_only_without_other_threads(threads: int, method: str) -> None:
    code = (
        "import threading, time\n"
        "from batchdigit.reading.startup import default_start_method\n"
        f"for _ in range({threads}): threading.Thread(target=time.sleep, args=[1]).start()\n"
        "print(default_start_method())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{method}\n"


def test_workers_that_never_begin_do_not_stall_the_run(
    files: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_in = pipe_workers.settle_in
    monkeypatch.setattr("batchdigit.reading.clocks.SECONDS_TO_START", 0.5)
    for module in (pipe_workers, torch_workers):
        monkeypatch.setattr(module, "settle_in", lambda: time.sleep(60))
    with Reader(
        files, batch_size=5, workers=2, reading=Reading(timeout=1, start_method="fork")
    ) as reader:
        for module in (pipe_workers, torch_workers):  # those that replace them begin
            monkeypatch.setattr(module, "settle_in", settle_in)
        batches = list(reader)
    assert sum(len(batch) + len(batch.failures) for batch in batches) == 10
    assert multiprocessing.active_children() == []


def test_reader_outside_its_with_block_is_an_error(files: FolderSource) -> None:
    with pytest.raises(ValueError, match="with block"):
        next(iter(Reader(files, batch_size=1, workers=0)))


@pytest.mark.skipif(sys.platform != "linux", reason="counts processes")
def test_signal_while_workers_start_leaves_none_behind(
    tmp_path: Path, open_workers: OpenWorkers
) -> None:
    save_grey(tmp_path / "0.png")
    files = files_in(tmp_path, [b"0.png"])

    def start_and_be_stopped(*arguments: Any) -> Any:
        workers = open_workers(*arguments)
        os.kill(os.getpid(), signal.SIGINT)
        assert multiprocessing.active_children()
        return workers

    with (
        pytest.raises(StoppedBySignal),
        signals_as_exceptions(),
        Reader(files, batch_size=1, workers=2, open_workers=start_and_be_stopped),
    ):
        pass
    assert multiprocessing.active_children() == []


def test_workers_read_though_opencv_has_threads_here(tmp_path: Path) -> None:
    """A forked process that touches the copy of OpenCV's threads hangs."""
    image = np.zeros((2000, 2000), np.uint8)
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        for _ in range(3):
            cv2.GaussianBlur(image, (9, 9), 0)
        (tmp_path / "large.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        files = files_in(tmp_path, [b"large.png"] * 4)
        with Reader(files, batch_size=1, workers=1, reading=Reading(start_method="fork")) as reader:
            assert [failure.stage for batch in reader for failure in batch.failures] == (
                ["blank"] * 4
            )
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)
