import os
import stat
from pathlib import Path

import pytest

from batchdigit import OutputError
from batchdigit.publish import Publication


def test_file_appears_when_published_and_not_before(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with Publication() as publication:
        publication.create(out).write(b"new")
        assert out.read_text() == "old"
        publication.publish()
    assert out.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_nothing_stays_of_what_was_not_published(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(KeyError), Publication() as publication:
        publication.create(out).write(b"new")
        publication.create(tmp_path / "second")
        raise KeyError
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with Publication() as publication:
            publication.create(tmp_path / "out.csv")
            publication.publish()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "out.csv").st_mode) == 0o640


def test_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.touch()
    out.chmod(0o604)
    with Publication() as publication:
        publication.create(out)
        publication.publish()
    assert stat.S_IMODE(out.stat().st_mode) == 0o604


def test_link_keeps_pointing_at_the_replaced_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "out.csv").write_text("old")
    os.symlink("real/out.csv", tmp_path / "link.csv")
    with Publication() as publication:
        publication.create(tmp_path / "link.csv").write(b"new")
        publication.publish()
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real" / "out.csv").read_text() == "new"


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with Publication() as publication, pytest.raises(OutputError, match="create its folder"):
        publication.create(tmp_path / "missing" / "out.csv")


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_not_a_regular_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out.csv"
    out.mkdir() if kind == "folder" else os.mkfifo(out)
    with Publication() as publication, pytest.raises(OutputError, match="not a regular file"):
        publication.create(out)
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failing_system_call_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"), Publication() as publication:
        publication.create(out).write(b"new")
        monkeypatch.setattr(os, call, fail)
        publication.publish()
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_full_disk_at_the_last_flush_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(OutputError, match="No space left"), Publication() as publication:
        handle = publication.create(out)
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), handle.fileno())  # the disk fills up
        handle.write(b"new")
        publication.publish()
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]
