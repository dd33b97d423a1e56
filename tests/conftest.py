"""What the tests share: the sample digits, model files, and the program as a user calls it."""

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.system.machine import available_cores
from batchdigit.system.signals import STOP_SIGNALS
from tests.support.modelfiles import save_the_tutorials_way
from tests.support.oracle import SeedRow, seed_loop
from tests.support.programs import users_environment
from tests.support.samples import SAMPLES, Program, age

# How long an example takes says something only about the machine.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

# Some tests make forked processes crash; only a crash of pytest itself should print its stack.
os.register_at_fork(after_in_child=faulthandler.disable)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores, because many tests wait for processes that they started."""
    return available_cores() + 1


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape lone surrogates (in a log, say), because pytest's workers cannot send them."""
    return _without_surrogates((yield))


def _without_surrogates(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_without_surrogates(key): _without_surrogates(data[key]) for key in data}
    if isinstance(data, list | tuple):
        return type(data)(map(_without_surrogates, data))
    return data


@pytest.fixture(scope="session", autouse=True)
def _no_signal_is_ignored() -> Iterator[None]:
    """Programs started here heed signals, even where nohup or a shell's & sets them to be ignored.

    Unlike SIG_IGN, a handler that does nothing is not inherited by another program.
    """
    ignored = [number for number in STOP_SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda _number, _frame: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def sample_paths() -> list[Path]:
    """The sample digits in the order of a report: by the bytes of their names."""
    return sorted(SAMPLES.glob("*.png"), key=lambda path: os.fsencode(path.name))


@pytest.fixture(scope="session")
def seed_rows(sample_paths: list[Path]) -> list[SeedRow]:
    """What the plain loop predicts for the sample digits."""
    return seed_loop(sample_paths, PACKAGED_WEIGHTS)


@pytest.fixture
def digits(tmp_path: Path, sample_paths: list[Path]) -> Path:
    """A folder with copies of ten digits, ``00.png`` to ``09.png``, an hour old."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for number, path in enumerate(sample_paths[:10]):
        (folder / f"{number:02}.png").write_bytes(path.read_bytes())
        age(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run ``batchdigit ARGUMENTS`` in a process of its own, in an empty folder."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "batchdigit", *map(str, arguments)]
        settings = {"capture_output": True, "text": True, "timeout": 120, "cwd": tmp_path}
        settings["env"] = users_environment()
        return subprocess.run(command, check=False, **(settings | options))  # type: ignore[call-overload]

    return run


@pytest.fixture
def opencv_without_threads() -> Iterator[None]:
    """Take OpenCV's threads away, which an earlier test may have given it, before a test forks.

    A fork does not have them, and would wait for them for ever.
    """
    from batchdigit.reading.startup import one_thread

    with one_thread:
        yield


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that every user can reach and write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.fixture(scope="session")
def tutorial_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packaged weights, saved in each of the tutorial's ways."""
    folder = tmp_path_factory.mktemp("tutorial")
    save_the_tutorials_way(folder, PACKAGED_WEIGHTS)
    return folder
