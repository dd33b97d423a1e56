"""Nothing but a regular file is read, nothing waits, and what is ours is nobody else's."""

import errno
import os
import socket
from pathlib import Path

import pytest

from batchdigit.errors import OutputError
from batchdigit.system.regular import (
    NotRegularError,
    check_own,
    check_own_descriptor,
    head,
    kind_of,
    open_own,
    open_regular,
    read_regular,
)


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.chdir(tmp_path)  # a socket's path may have at most 107 bytes
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    return {
        "a folder": tmp_path / "folder",
        "a FIFO": tmp_path / "fifo",
        "a socket": tmp_path / "socket",
        "a device": Path(os.devnull),
    }


@pytest.mark.parametrize("what", ["a folder", "a FIFO", "a socket", "a device"])
def test_what_is_no_regular_file_is_named_at_once(odd: dict[str, Path], what: str) -> None:
    with pytest.raises(NotRegularError, match=f"not a regular file but {what}"):
        open_regular(odd[what])
    with pytest.raises(NotRegularError, match=what):
        read_regular(odd[what], 10)
    assert kind_of(odd[what].lstat()) == what


def test_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    assert read_regular(tmp_path / "file", 4) is None
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "missing", 5)


def test_link_is_followed_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    descriptor, status = open_regular(tmp_path / "link")
    os.close(descriptor)
    assert status.st_size == 5
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_regular(tmp_path / "link", follow=False)
    folder = os.open(tmp_path, os.O_RDONLY)
    descriptor, _ = open_regular(b"file", folder=folder, follow=False)
    os.close(descriptor)
    os.close(folder)


def test_what_is_ours_passes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o640)
    check_own(tmp_path / "file")
    check_own(tmp_path / "missing")
    (tmp_path / "folder").mkdir(mode=0o700)
    check_own(tmp_path / "folder", folder=True)
    with open_own(tmp_path / "file") as file:
        assert file.read() == b"12345"
        check_own_descriptor(tmp_path / "file", file.fileno())
    with pytest.raises(FileNotFoundError), open_own(tmp_path / "missing"):
        raise AssertionError


def test_what_others_may_have_changed_does_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(OutputError, match="open to other users"):
            check_own(path)
        check_own(path, private=False)
        with pytest.raises(OutputError, match="open to other users"), open_own(path):
            raise AssertionError
    path.chmod(0o600)
    (tmp_path / "other").hardlink_to(path)
    with path.open() as file, pytest.raises(OutputError, match="another name"):
        check_own_descriptor(path, file.fileno())
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OutputError, match="a symbolic link instead of"), open_own(link):
        raise AssertionError


def test_head_is_no_more_than_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    assert head(tmp_path / "a", 3) == b"abc"
    assert head(tmp_path / "a") == b"abcdef"
