"""Only regular files are read, whole and as they were when they were opened."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from batchdigit.errors import ImageError
from batchdigit.sources.contents import read_file
from tests.support.platforms import needs_linux


def refusal(path: Path, **options: object) -> str:
    """The error of a file that is not read."""
    with pytest.raises(ImageError) as caught:
        read_file(os.fsencode(path), **options)  # type: ignore[arg-type]
    return f"{caught.value.stage}: {caught.value.message}"


@needs_linux("names of any bytes")
@pytest.mark.parametrize("size", [0, 1, 5, 1_000_000])
def test_contents_are_those_of_the_file(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes(content)
    assert read_file(os.fsencode(path), max_bytes=max(size, 1)) == content


def test_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"123456")
    monkeypatch.delattr(os, "read")
    said = refusal(tmp_path / "a", max_bytes=5)
    assert said == "too-large: 6 bytes, more than the limit of 5"


def test_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a") == "read: No such file or directory"


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a FIFO"),
        (make_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_what_is_no_file_is_named_and_nobody_waits_for_it(
    tmp_path: Path, make: Callable[[Path], object], kind: str
) -> None:
    path = tmp_path / "a"
    make(path)
    assert refusal(path, follow_symlinks=True) == f"read: not a regular file but {kind}"


def test_link_is_read_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    assert "--follow-symlinks" in refusal(tmp_path / "link")
    assert read_file(os.fsencode(tmp_path / "link"), follow_symlinks=True) == b"content"
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "--follow-symlinks" in refusal(tmp_path / "dangling")
    assert "No such file" in refusal(tmp_path / "dangling", follow_symlinks=True)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda path: os.truncate(path, 3), "shrank"),
        (append, "grew"),
        (lambda path: path.write_bytes(b"9876543210"), "changed"),
        (lambda path: os.utime(path, (1, 1)), "changed"),
    ],
    ids=["cut", "appended", "written", "touched"],
)
def test_file_that_changes_while_it_is_read_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], what: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    os.utime(path, (10**9, 10**9))
    read = os.read
    changes = iter([change])

    def read_and_change(descriptor: int, size: int) -> bytes:
        for once in changes:
            once(path)
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", read_and_change)
    assert refusal(path) == f"read: the file {what} while it was being read"


def test_file_that_comes_in_pieces_is_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 3)))
    assert read_file(os.fsencode(tmp_path / "a")) == b"0123456789"


@needs_linux("/proc")
@pytest.mark.parametrize("fails", ["open", "read"])
def test_error_of_the_disk_is_an_image_error_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def fail(*_: object, **_options: object) -> int:
        raise OSError(5, "Input/output error")

    (tmp_path / "a").write_bytes(b"content")
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, fails, fail)
        said = refusal(tmp_path / "a")
    assert said == "read: Input/output error"
    assert len(os.listdir("/proc/self/fd")) == len(before)
