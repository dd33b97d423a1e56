import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from batchdigit import OutputError
from batchdigit.system.parents import parents_made
from batchdigit.system.publish import Publication, check_target
from batchdigit.system.replacing import Kind
from tests.support.platforms import needs_linux
from tests.support.reports import replaced_mode
from tests.support.samples import REPOSITORY


def test_file_appears_when_published_and_not_before(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with Publication(force=True) as publication:
        publication.create(out).write(b"new")
        assert out.read_text() == "old"
        publication.publish()
    assert out.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_nothing_stays_of_what_was_not_published(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(KeyError), Publication(force=True) as publication:
        publication.create(out).write(b"new")
        publication.create(tmp_path / "second")
        raise KeyError
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with Publication(force=True) as publication:
            publication.create(tmp_path / "out.csv")
            publication.publish()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "out.csv").st_mode) == 0o640


def test_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.touch()
    out.chmod(0o604)
    assert replaced_mode(out) == 0o604


def test_link_keeps_pointing_at_the_replaced_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "out.csv").write_text("old")
    os.symlink("real/out.csv", tmp_path / "link.csv")
    with Publication(force=True) as publication:
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
    said = {"folder": f"it is a folder; name a file in it: {out}/", "fifo": "not a regular file"}
    with (
        Publication(force=True) as publication,
        pytest.raises(OutputError, match=said[kind]),
    ):
        publication.create(out)
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("path", ["/", "/dev/stdout", "/dev/null"])
def test_what_cannot_be_replaced_is_found_at_once(path: str) -> None:
    read, write = os.pipe()
    before, descriptor = os.dup(1), os.dup2(write, 1)
    try:
        with pytest.raises(OutputError, match="is a folder|not a regular file"):
            check_target(Path(path))
    finally:
        os.dup2(before, descriptor)
        for opened in (read, write, before):
            os.close(opened)


as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file, or changes user, as root"
)


@as_root
def test_file_that_is_a_mount_point_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / "out file.csv").touch()
    code = (
        "import batchdigit.system.publish as p, pathlib\n"
        "try: p.check_target(pathlib.Path('out file.csv'))\n"
        "except p.OutputError as error: print(error)"
    )
    (tmp_path / "code.py").write_text(code)
    mount = "mount --make-rprivate / && mount --bind other 'out file.csv'"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mount} && {sys.executable} code.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    if "unshare failed" in done.stderr or "permission denied" in done.stderr:
        pytest.skip(done.stderr)
    assert "mount its folder instead" in done.stdout, done.stderr


@as_root
def test_file_of_another_user_in_a_sticky_folder_is_found_at_once(open_folder: Path) -> None:
    (open_folder / "out.csv").touch()
    open_folder.chmod(0o1777)
    pid = os.fork()
    if not pid:
        os.setuid(54321)
        try:
            check_target(open_folder / "out.csv")
        except OutputError as error:
            os._exit(0 if "another user" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failing_system_call_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"), Publication(force=True) as publication:
        publication.create(out).write(b"new")
        monkeypatch.setattr(os, call, fail)
        publication.publish()
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


@needs_linux("/dev/full")
def test_full_disk_at_the_last_flush_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(OutputError, match="No space left"), Publication(force=True) as publication:
        handle = publication.create(out)
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), handle.fileno())  # the disk fills up
        handle.write(b"new")
        publication.publish()
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


NOTES = Kind("a note", lambda path: path.read_bytes().startswith(b"note"))


@pytest.mark.parametrize("appears", ["before", "meanwhile"])
@pytest.mark.parametrize(("content", "kept"), [(b"note 1", False), (b"", False), (b"x", True)])
def test_only_files_of_its_kind_are_replaced(
    tmp_path: Path, appears: str, content: bytes, kept: bool
) -> None:
    out = tmp_path / "out"

    def publish() -> None:
        with Publication() as publication:
            publication.create(out, NOTES).write(b"note 2")
            if appears == "meanwhile":
                out.write_bytes(content)
            publication.publish()

    if appears == "before":
        out.write_bytes(content)
    if kept:
        with pytest.raises(OutputError, match="not a note.*--force"):
            publish()
    else:
        publish()
    assert out.read_bytes() == (content if kept else b"note 2")
    assert os.listdir(tmp_path) == ["out"]


def test_file_that_appears_at_the_very_last_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(source: Path, target: Path) -> None:
        target.write_text("precious")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(OutputError, match="exists already"), Publication() as publication:
        publication.create(tmp_path / "out", NOTES).write(b"note")
        publication.publish()
    assert (tmp_path / "out").read_text() == "precious"
    assert os.listdir(tmp_path) == ["out"]


def test_nothing_is_published_if_one_file_may_not_be(tmp_path: Path) -> None:
    with pytest.raises(OutputError), Publication() as publication:
        publication.create(tmp_path / "first", NOTES).write(b"note")
        publication.create(tmp_path / "second", NOTES).write(b"note")
        (tmp_path / "second").write_text("precious")
        publication.publish()
    assert os.listdir(tmp_path) == ["second"]
    assert (tmp_path / "second").read_text() == "precious"


def test_file_system_without_hard_links_gets_the_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Publication() as publication:
        publication.create(tmp_path / "out", NOTES).write(b"note")
        publication.publish()
    assert (tmp_path / "out").read_bytes() == b"note"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["~/preds.csv", "$HOME/preds.csv"])
def test_what_the_shell_should_have_replaced_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="the shell has not replaced"):
        check_target(Path(name))
    with (
        pytest.raises(OutputError, match="the shell has not replaced"),
        parents_made(Path(name), wanted=True),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    Path(name).parent.mkdir()
    check_target(Path(name))
