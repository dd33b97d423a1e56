"""What others have planted beside a report, or at its name, is named, left alone, and not used."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchdigit import Job, OutputError, run
from batchdigit.places import account_path, journal_path, lock_path, state_path
from batchdigit.system.publish import check_target
from tests.support.programs import problem
from tests.support.reports import OLD, replaced_mode
from tests.support.samples import Program

SOMEBODY = 54321
as_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root can give files to others"
)


def places(out: Path) -> dict[str, Path]:
    return {
        "lock": lock_path(out),
        "journal": journal_path(out),
        "state": state_path(out),
        "account": account_path(out),
    }


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def fifo(path: Path, _victim: Path) -> None:
    os.mkfifo(path, 0o600)


def folder(path: Path, _victim: Path) -> None:
    path.mkdir(mode=0o700)


def file(path: Path, _victim: Path) -> None:
    path.touch(mode=0o600)


def open_to_others(path: Path, _victim: Path) -> None:
    path.touch()
    path.chmod(0o666)


def open_folder(path: Path, _victim: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


PLANTS: list[tuple[str, Callable[[Path, Path], None], str]] = [
    *((name, link, "is a symbolic link instead of") for name in ("lock", "state", "account")),
    *((name, fifo, "is a FIFO instead of") for name in ("lock", "state", "account", "journal")),
    *((name, folder, "is a folder instead of") for name in ("lock", "state", "account")),
    ("lock", hard_link, "has another name, too"),
    ("lock", open_to_others, "is open to other users"),
    ("journal", link, "is a symbolic link instead of a folder"),
    ("journal", file, "is a regular file instead of a folder"),
    ("journal", open_folder, "is open to other users"),
]


@pytest.mark.parametrize(("name", "plant", "said"), PLANTS)
def test_what_this_program_did_not_put_there_is_named(
    digits: Path, tmp_path: Path, name: str, plant: Callable[[Path, Path], None], said: str
) -> None:
    out, victim = tmp_path / "out.csv", tmp_path / "victim"
    out.write_text(OLD)
    victim.write_text("precious")
    victim.chmod(0o600)
    path = places(out)[name]
    plant(path, victim)
    before = os.lstat(path)
    for update in (False, True):
        with pytest.raises(OutputError, match=said) as caught:
            run(Job((str(digits),), out, update=update))
        assert str(path) in str(caught.value)
        assert caught.value.remedy
    assert out.read_text() == OLD
    assert victim.read_text() == "precious"
    assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.parametrize("change", [hard_link, open_to_others])
def test_state_that_others_may_have_changed_is_replaced_but_not_read(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any
) -> None:
    """It costs a night without reuse, and not the night: the new state is private again."""
    out, victim = tmp_path / "out.csv", tmp_path / "victim"
    run(Job((str(digits),), out))
    forged = state_path(out).read_bytes()
    state_path(out).unlink()
    victim.write_bytes(forged)
    change(state_path(out), victim)
    state_path(out).write_bytes(forged)
    for update, reused in ((True, 0), (True, 10)):
        summary = run(Job((str(digits),), out, update=update))
        assert (summary.reused, summary.predicted) == (reused, 10 - reused)
    assert f"{state_path(out)} is " in caplog.text
    assert "every image is predicted" in caplog.text
    assert stat.S_IMODE(state_path(out).stat().st_mode) == 0o600
    assert victim.read_bytes() == forged


def test_copies_by_hard_links_do_not_end_the_next_run(digits: Path, tmp_path: Path) -> None:
    """As ``cp -al`` makes them of a whole folder."""
    folder = tmp_path / "reports"
    folder.mkdir()
    run(Job((str(digits),), folder / "out.csv", save_fitted=folder / "fitted"))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=os.link)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    run(Job((str(digits),), folder / "out.csv", save_fitted=folder / "fitted", fresh=True))
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", ["journal", "lock"])
def test_file_system_without_rights_of_its_own_is_fine(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """There all files have the same owner and rights, whoever makes them, and with which."""
    out = tmp_path / "out.csv"
    (open_folder if name == "journal" else open_to_others)(places(out)[name], out)
    with pytest.raises(OutputError, match="is open to other users"):
        run(Job((str(digits),), out))
    everything = (os.geteuid(), 0o777)
    monkeypatch.setattr("batchdigit.system.regular._of_a_new_file", lambda _folder: everything)
    run(Job((str(digits),), out))
    assert out.exists()


@as_root
@pytest.mark.parametrize("name", ["lock", "journal", "state", "account"])
def test_what_belongs_to_somebody_else_is_named(
    digits: Path, tmp_path: Path, program: Program, name: str
) -> None:
    out = tmp_path / "out.csv"
    path = places(out)[name]
    (folder if name == "journal" else file)(path, path)
    os.chown(path, SOMEBODY, SOMEBODY)
    line = problem(program("run", digits, "--out", out), 73)
    assert f"{path} belongs to another user, with number {SOMEBODY}" in line
    assert not out.exists()


def test_what_is_kept_beside_a_report_is_for_its_owner_alone(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    old = os.umask(0)
    try:
        run(Job((str(digits),), out))
    finally:
        os.umask(old)
    assert stat.S_IMODE(state_path(out).stat().st_mode) == 0o600
    assert stat.S_IMODE(account_path(out).stat().st_mode) == 0o666
    assert stat.S_IMODE(out.stat().st_mode) == 0o666


@as_root
@pytest.mark.parametrize("mode", [0o4777, 0o2755, 0o666])
def test_report_does_not_take_over_the_rights_of_somebody_elses_file(
    tmp_path: Path, mode: int
) -> None:
    """With the bit of the effective user it would run as root, and anybody could write it."""
    out = tmp_path / "out.csv"
    out.touch()
    os.chown(out, SOMEBODY, SOMEBODY)
    out.chmod(mode)
    assert replaced_mode(out) == 0o666 & ~_umask() & mode
    assert out.stat().st_uid == 0


@as_root
def test_report_of_somebody_else_that_was_private_stays_so(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.touch(mode=0o600)
    os.chown(out, SOMEBODY, SOMEBODY)
    assert replaced_mode(out) == 0o600


def test_report_takes_over_the_rights_of_ours_but_never_to_run_as_us(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.touch()
    out.chmod(0o4640)
    assert replaced_mode(out) == 0o640


@as_root
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_planted_in_everybodys_folder_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """As root, which the folder does not keep from it."""
    shared, private = tmp_path / "shared", tmp_path / "private"
    shared.mkdir()
    private.mkdir()
    shared.chmod(0o1777)
    (private / "out.csv").write_text("precious")
    out = shared / "out.csv"
    if kind == "file":
        out.touch()
        os.chown(out, SOMEBODY, SOMEBODY)
    else:
        planted = out if kind == "link" else shared / "sub"
        planted.symlink_to(private / "out.csv" if kind == "link" else private)
        os.chown(planted, SOMEBODY, SOMEBODY, follow_symlinks=False)
        out = planted if kind == "link" else planted / "out.csv"
    with pytest.raises(OutputError, match="another user"):
        check_target(out)
    if kind != "file":
        (tmp_path / "mine").symlink_to(out)  # a link of ours that leads to it
        with pytest.raises(OutputError, match="another user"):
            check_target(tmp_path / "mine")
    os.chown(shared, SOMEBODY, SOMEBODY)  # then that user could do it anyway
    check_target(out)
    assert (private / "out.csv").read_text() == "precious"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
