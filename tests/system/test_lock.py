"""Only one run at a time writes an output."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchdigit import OutputBusyError, OutputError
from batchdigit.system.lock import hold_output

HOLD = """
import sys, time
from pathlib import Path
from batchdigit.system.lock import hold_output
with hold_output(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds ``out.csv``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out.csv")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()
    process.stdout.close()


def test_nothing_stays_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with hold_output(tmp_path / "out.csv"):
            assert os.listdir(tmp_path) == [".out.csv.lock"]
    assert os.listdir(tmp_path) == []


def test_second_process_is_refused_and_told_who_holds_it(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    for _ in range(2):
        with (
            pytest.raises(OutputBusyError, match=f"process {holder.pid}.*--wait") as refused,
            hold_output(tmp_path / "out.csv"),
        ):
            pass
        assert refused.value.exit_code == 75
    with hold_output(tmp_path / "other.csv"):
        pass


def test_lock_dies_with_its_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert os.listdir(tmp_path) == [".out.csv.lock"]
    with hold_output(tmp_path / "out.csv"):
        pass


def test_waiting_run_gets_its_turn_and_says_once_that_it_waits(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    waits: list[str] = []

    def end_holder(name: str) -> None:
        waits.append(name)
        holder.kill()

    with hold_output(tmp_path / "out.csv", wait=60, on_wait=end_holder):
        assert holder.wait() == -9
    assert waits == [f"process {holder.pid}"]


def test_waiting_ends(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(time, "sleep", slept.append)
    longer = r"wait longer than --wait 0\.5$"
    with pytest.raises(OutputBusyError, match=longer), hold_output(tmp_path / "out.csv", wait=0.5):
        pass
    assert slept == pytest.approx([0.2, 0.2, 0.1])
    assert holder.poll() is None


def test_second_thread_is_refused_and_does_not_break_the_lock(tmp_path: Path) -> None:
    """Within a process, POSIX's lock excludes nobody and is lost when the file is closed."""
    with hold_output(tmp_path / "out.csv"):
        with pytest.raises(OutputBusyError, match="this one"), hold_output(tmp_path / "out.csv"):
            pass
        code = HOLD.replace("time.sleep(60)", "")
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "out.csv")],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert "OutputBusyError" in other.stderr


def test_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    fork = 'import os; child = os.fork(); os.write(1, b"%d\\n" % (child or os.getpid()))'
    code = HOLD.replace('print("held", flush=True)', fork)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out.csv")], stdout=subprocess.PIPE, text=True
    )
    with process, process.stdout:  # type: ignore[union-attr]
        children = {int(process.stdout.readline()) for _ in range(2)} - {process.pid}  # type: ignore[union-attr]
        (child,) = children
        process.kill()
        process.wait()
        try:
            with hold_output(tmp_path / "out.csv"):
                os.kill(child, 0)  # it is alive
        finally:
            os.kill(child, 9)


def test_links_to_one_report_share_its_lock(tmp_path: Path) -> None:
    (tmp_path / "out.csv").touch()
    (tmp_path / "link.csv").symlink_to("out.csv")
    with (
        hold_output(tmp_path / "out.csv"),
        pytest.raises(OutputBusyError),
        hold_output(tmp_path / "link.csv"),
    ):
        pass


def test_contenders_exclude_each_other(tmp_path: Path) -> None:
    """Eight processes add one to a number a hundred times each; none is lost."""
    number = tmp_path / "number"
    number.write_text("0")
    code = f"""
from pathlib import Path
from batchdigit.system import lock
lock.SECONDS_BETWEEN_TRIES = 0.0005
number = Path({str(number)!r})
for _ in range(100):
    with lock.hold_output(number, wait=600):
        number.write_text(str(int(number.read_text()) + 1))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(8)]
    assert [process.wait(timeout=600) for process in processes] == [0] * 8
    assert number.read_text() == "800"


def test_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="create its folder"), hold_output(tmp_path / "no" / "a"):
        pass


def test_full_disk_leaves_no_lock_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OutputError, match="No space left"), hold_output(tmp_path / "out.csv"):
        raise AssertionError
    assert not any(tmp_path.iterdir())


def test_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".out.csv.lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(OutputError, match="a symbolic link instead of a regular file"),
        hold_output(tmp_path / "out.csv"),
    ):
        raise AssertionError
    assert (tmp_path / "precious").read_text() == "precious"
