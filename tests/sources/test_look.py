"""Files whose names do not say whether they are images."""

import os
from pathlib import Path

import pytest

from batchdigit.sources import look
from batchdigit.sources.folder import FolderSource, open_folders
from batchdigit.system.regular import head

PNG = b"\x89PNG\r\n\x1a\n and so on"


def write(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def images_of(*sources: Path, **options: bool) -> list[bytes]:
    return list(open_folders(sources, **options).images)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The paths that were opened to look into them."""
    paths = list[object]()

    def note(path: bytes, size: int, *, follow: bool, folder: int | None) -> bytes:
        paths.append(path)
        return head(path, size, follow=follow, folder=folder)

    monkeypatch.setattr(look, "head", note)
    return paths


@pytest.mark.parametrize("name", ["IMG_0001", "2.png?size=2", "3.png (1)", "page.001", "4.mpo"])
def test_file_whose_name_says_nothing_is_an_image_if_its_first_bytes_are(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, name, "7.csv", content=PNG)
    write(tmp_path, f"{name}x", content=b"Dear diary")
    write(tmp_path, f"{name}y", content=b"")
    listing = open_folders([tmp_path])
    assert list(listing.images) == [name.encode()]
    assert len(listing.ignored) == 3


def test_file_whose_name_says_what_it_is_is_not_opened(
    tmp_path: Path, opened: list[object]
) -> None:
    write(tmp_path, "1.png", "2.HEIC", "3.csv", "4.PDF", "5.tar.gz", "6", "7.unheard-of")
    assert images_of(tmp_path) == [b"1.png", b"2.HEIC"]
    assert opened == [b"6", b"7.unheard-of"]


def test_what_is_no_regular_file_is_not_even_opened(tmp_path: Path, opened: list[object]) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    write(tmp_path, "1.png")
    assert images_of(tmp_path) == [b"1.png"]
    assert images_of(tmp_path, follow_symlinks=True) == [b"1.png"]
    assert opened == []


def test_file_that_cannot_be_looked_at_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_more: object) -> object:
        raise PermissionError(13, "Permission denied")

    write(tmp_path, "closed")
    monkeypatch.setattr(look, "head", refuse)
    assert images_of(tmp_path) == [b"closed"]


def test_linked_folder_is_listed_unless_it_is_read_anyway(tmp_path: Path) -> None:
    write(tmp_path, "in/a/1.png", "in/.hidden/2.png", "also/3.png", "in.old/4.png")
    for name, target in {
        "in/again": "a",
        "in/all.txt": ".",
        "in/other": "../also",
        "in/unseen": ".hidden",
        "in/above": "..",
        "in/beside.txt": "../in.old",
    }.items():
        (tmp_path / name).symlink_to(target)
    found = images_of(tmp_path / "in", tmp_path / "also")
    assert found == [b"also/3.png", b"in/a/1.png", b"in/above", b"in/beside.txt", b"in/unseen"]


def test_link_to_a_file_is_what_its_target_is_named(tmp_path: Path, opened: list[object]) -> None:
    write(tmp_path, "out/1.png", "out/notes.txt", "out/none", "in/2.png", content=PNG)
    for name in ("1.png", "notes.txt", "none", "missing.png"):
        (tmp_path / "in" / name.replace(".", "-")).symlink_to(tmp_path / "out" / name)
    assert images_of(tmp_path / "in") == [b"1-png", b"2.png", b"missing-png"]
    assert opened == []
    followed = images_of(tmp_path / "in", follow_symlinks=True)
    assert followed == [b"1-png", b"2.png", b"none", b"notes-txt"]


HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"


def heic_of(folder: Path) -> object:
    source = open_folders([folder])
    assert isinstance(source.at([0]), FolderSource)
    assert source.at([0]).binding == source.binding
    return source.binding.get("pillow-heif")


def test_version_of_the_decoder_of_heic_counts_where_there_is_heic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchdigit.sources.folder.heif_version", lambda: "1.2.3")
    write(tmp_path / "a", "1.png", "2.tga")
    assert heic_of(tmp_path / "a") is None
    for name in ("3.HEIC", "4"):
        assert heic_of(write(tmp_path / name, name, content=HEIC)) == "1.2.3"
    monkeypatch.setattr("batchdigit.sources.folder.heif_version", lambda: "")
    assert heic_of(tmp_path / "4") is None
