"""Which files may be replaced."""

import os
import sys
from pathlib import Path

import pytest

from batchdigit import OutputError
from batchdigit.system.regular import head
from batchdigit.system.replacing import Kind, check_replaceable

NOTE = Kind("a note", lambda path: head(path, 4) == b"note")


@pytest.mark.parametrize("content", ["", "note", "note 2"])
def test_empty_files_and_files_of_the_kind_may_be_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "out"
    check_replaceable(path, NOTE)
    path.write_text(content)
    check_replaceable(path, NOTE)


@pytest.mark.parametrize("kind", [NOTE, None])
def test_other_files_are_replaced_only_by_force(tmp_path: Path, kind: Kind | None) -> None:
    path = tmp_path / "out"
    path.write_text("precious")
    with pytest.raises(OutputError, match="out exists.*add --force") as caught:
        check_replaceable(path, kind)
    assert caught.value.exit_code == 73
    check_replaceable(path, kind, force=True)


@pytest.mark.parametrize("content", ["", "note"])
@pytest.mark.parametrize("mode", [0o444, 0o400, 0o555])
def test_read_only_file_is_replaced_only_by_force(tmp_path: Path, mode: int, content: str) -> None:
    path = tmp_path / "out"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(OutputError, match="read-only.*add --force"):
        check_replaceable(path, NOTE)
    check_replaceable(path, NOTE, force=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="changes user, as root")
def test_file_that_others_may_write_to_is_read_only_for_this_user(open_folder: Path) -> None:
    path = open_folder / "out"
    path.write_text("note")
    path.chmod(0o644)
    pid = os.fork()
    if not pid:
        os.setuid(54321)
        try:
            check_replaceable(path, NOTE)
        except OutputError as error:
            os._exit(0 if "read-only" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_file_that_a_link_leads_to_is_judged(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "out").symlink_to("mine")
    with pytest.raises(OutputError):
        check_replaceable(tmp_path / "out", NOTE)


def test_what_is_no_regular_file_is_judged_elsewhere(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("fifo", "dangling", "missing", "."):
        check_replaceable(tmp_path / name, NOTE)
