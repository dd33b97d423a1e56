"""A run that is stopped, killed or in the way of another, and the run that follows it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchdigit.system.lock import hold_output
from tests.support.programs import problem
from tests.support.reports import OLD
from tests.support.samples import Program
from tests.support.waiting import wait_until

# The run closes a part of its journal after each batch; otherwise a fast machine would be done
# before there is one.
HASTY = """
from batchdigit.resume import journal
from batchdigit.cli.app import main

journal.SECONDS_IN_A_PART = journal.SHARE_IN_A_PART = 0.0
main()
"""


@pytest.fixture
def slow_run(digits: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run, caught in the middle of its work."""
    for number in range(8_000):
        os.link(digits / "00.png", digits / f"more-{number}.png")
    (tmp_path / "out.csv").write_text(OLD)
    process = subprocess.Popen(
        [sys.executable, "-c", HASTY, "run", digits, "-o", "out.csv", "-b", "1", "-j", "1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: any(tmp_path.glob(".out.csv.journal/*/*.part")) or process.poll())
    assert process.poll() is None
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_stops_the_run_and_keeps_the_old_report(
    slow_run: subprocess.Popen[str], tmp_path: Path, name: str
) -> None:
    number = getattr(signal, name)
    os.killpg(slow_run.pid, number)  # as a terminal does: workers get it too
    stdout, stderr = slow_run.communicate(timeout=60)
    assert slow_run.returncode == 128 + number, stderr
    assert stdout == ""
    assert stderr == (
        f"batchdigit: stopped by {name}; out.csv is as it was; "
        "the same command continues from here\n"
    )
    assert (tmp_path / "out.csv").read_text() == OLD
    assert sorted(os.listdir(tmp_path)) == [".out.csv.journal", "digits", "out.csv"]
    with pytest.raises(ProcessLookupError):  # no worker is left in the session
        os.killpg(slow_run.pid, 0)


# Put before HASTY: the run is killed when it has closed its fifth part.
DOOMED = """
import os, signal
from batchdigit.resume import journal

flush = journal.Journal.flush

def flush_and_die(self):
    flush(self)
    if self._parts == 5:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.flush = flush_and_die
"""


@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_killed_run_continues_and_gives_the_same_bytes(
    program: Program, digits: Path, tmp_path: Path, extension: str
) -> None:
    for number in range(300):
        os.link(digits / f"{number % 10:02}.png", digits / f"more-{number:04}.png")
    arguments = ("run", digits, "-b", "16", "--out")
    program(*arguments, f"whole.{extension}")
    out = f"out.{extension}"
    killed = subprocess.run(
        [sys.executable, "-c", DOOMED + HASTY, *arguments, out], cwd=tmp_path, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / out).exists()
    done = program(*arguments, out)
    assert done.returncode == 0
    assert "continuing where an earlier run stopped: 80 of 310 images were done" in done.stderr
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole.{extension}").read_bytes()
    assert not (tmp_path / f".{out}.journal").exists()


def test_reader_that_has_seen_enough_ends_the_run_quietly(digits: Path, tmp_path: Path) -> None:
    for number in range(20_000):
        os.link(digits / "00.png", digits / f"more-{number}.png")
    command = f"{sys.executable} -m batchdigit run {digits} -q; echo $? > {tmp_path / 'code'}"
    done = subprocess.run(
        ["sh", "-c", f"({command}) | head -2"], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""
    assert (tmp_path / "code").read_text() == "141\n"


def test_second_run_is_75_or_waits_for_the_first(
    program: Program, digits: Path, tmp_path: Path
) -> None:
    with hold_output(tmp_path / "out.csv"):
        line = problem(program("run", digits, "-o", "out.csv"), 75)
        assert f"process {os.getpid()}" in line
        assert "--wait" in line
        second = subprocess.Popen(
            [sys.executable, "-m", "batchdigit", "run", digits, "-o", "out.csv", "--wait", "600"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert second.stderr is not None
        waiting = f"waiting for another run that writes out.csv (process {os.getpid()})\n"
        assert second.stderr.readline() == waiting
    _, stderr = second.communicate(timeout=120)
    assert second.returncode == 0, stderr
    assert "10 predicted" in stderr


def test_busy_output_is_found_before_anything_is_loaded(digits: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from batchdigit.cli.app import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.stderr.write(str('torch' in sys.modules))\n"
    )
    with hold_output(tmp_path / "out.csv"):
        done = subprocess.run(
            [sys.executable, "-c", code, "run", digits, "-o", "out.csv"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 75
    assert done.stderr.endswith("False")
