"""Workers start and end with the run, or say what prevents it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from batchdigit.errors import StoppedBySignal
from batchdigit.job import Reading
from batchdigit.reading import pipe_workers, torch_workers
from batchdigit.reading.workers import OpenWorkers
from batchdigit.sources.folder import FolderSource
from batchdigit.system.signals import signals_as_exceptions
from tests.reading.conftest import ReaderOf
from tests.support.platforms import needs_linux
from tests.support.samples import REPOSITORY, files_in, save_grey
from tests.support.waiting import is_running, wait_until


def import_line(open_workers: Any) -> str:
    return f"from {open_workers.__module__} import {open_workers.__name__}\n"


@needs_linux("/proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path, open_workers: Any) -> None:
    save_grey(tmp_path / "a.png")
    code = import_line(open_workers) + (
        "import os, signal, sys\n"
        f"sys.path.append({str(REPOSITORY)!r})\n"
        "from tests.support.processes import children\n"
        "from batchdigit.job import Reading\n"
        "from batchdigit.reading.dataset import DigitImages\n"
        "from batchdigit.reading.reader import Reader\n"
        "from batchdigit.sources.beneath import Beneath\n"
        "from batchdigit.sources.filelist import FileList\n"
        "from batchdigit.sources.folder import FolderSource\n"
        "many = FileList([b'a.png'] * 1_000_000)\n"
        "files = FolderSource(Beneath(os.fsencode(sys.argv[1])), many, FileList())\n"
        "images = DigitImages(files, Reading(start_method=sys.argv[2]))\n"
        "with Reader(images, batch_size=500_000, workers=2,\n"
        f"            open_workers={open_workers.__name__}):\n"
        "    print(*children(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "run.py").write_text(code)
    for start_method in ("fork", "spawn"):
        done = subprocess.run(
            [sys.executable, tmp_path / "run.py", tmp_path, start_method],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL
        workers = [int(pid) for pid in done.stdout.split()]
        assert len(workers) == 2
        wait_until(lambda workers=workers: not any(map(is_running, workers)))


def test_workers_that_cannot_start_are_an_error_and_leave_none(
    tmp_path: Path, open_workers: Any
) -> None:
    code = import_line(open_workers) + (
        "import resource, pathlib, multiprocessing, torch, batchdigit\n"
        "from batchdigit.reading.dataset import DigitImages\n"
        "from batchdigit.reading.reader import Reader\n"
        "from batchdigit.sources.beneath import Beneath\n"
        "from batchdigit.sources.filelist import FileList\n"
        "from batchdigit.sources.folder import FolderSource\n"
        "files = FolderSource(Beneath(b'/'), FileList([b'a.png'] * 99), FileList())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))\n"
        "try:\n"
        "    with Reader(DigitImages(files), batch_size=1, workers=20,\n"
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


@needs_linux("workers are spawned elsewhere")
@pytest.mark.parametrize(("threads", "method"), [(0, "fork"), (1, "spawn")])
def test_fork_is_chosen_only_without_other_threads(threads: int, method: str) -> None:
    code = (
        "import threading, time\n"
        "from batchdigit.reading.startup import choose_start_method\n"
        f"for _ in range({threads}):\n"
        "    threading.Thread(target=time.sleep, args=[60], daemon=True).start()\n"
        "print(choose_start_method(None))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{method}\n"


def test_workers_that_never_begin_do_not_stall_the_run(
    files: FolderSource, reader_of: ReaderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_in = pipe_workers.settle_in
    monkeypatch.setattr("batchdigit.reading.clocks.SECONDS_TO_START", 0.5)
    for module in (pipe_workers, torch_workers):
        monkeypatch.setattr(module, "settle_in", lambda _memory: time.sleep(60))
    with reader_of(
        files, batch_size=5, workers=2, start_method="fork", reading=Reading(timeout=1)
    ) as reader:
        for module in (pipe_workers, torch_workers):  # their replacements do begin
            monkeypatch.setattr(module, "settle_in", settle_in)
        batches = list(reader)
    assert sum(len(batch) + len(batch.failures) for batch in batches) == 10
    assert multiprocessing.active_children() == []


def test_signal_while_workers_start_leaves_none_behind(
    tmp_path: Path, open_workers: OpenWorkers, reader_of: ReaderOf
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
        reader_of(files, batch_size=1, workers=2, open_workers=start_and_be_stopped),
    ):
        pass
    assert multiprocessing.active_children() == []
