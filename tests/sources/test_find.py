import os
import subprocess
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from batchdigit import Job, SourceError
from batchdigit.sources.find import find_images
from batchdigit.sources.folder import open_folders
from tests.support.samples import refuse_to_list


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def images_of(*sources: Path, **options: object) -> list[bytes]:
    return list(open_folders(sources, **options).images)  # type: ignore[arg-type]


def test_class_folders_are_listed_as_image_folder_lists_them(tmp_path: Path) -> None:
    names = [f"{digit}/{name}" for digit in range(10) for name in ("b.png", "a.JPG", "x/c.png")]
    touch(tmp_path, *names)
    oracle = {
        os.fsencode(os.path.relpath(path, tmp_path)) for path, _ in ImageFolder(tmp_path).imgs
    }
    assert set(images_of(tmp_path)) == oracle


def test_flat_folder_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "2.png", "1.png", "10.png")
    assert images_of(tmp_path) == [b"1.png", b"10.png", b"2.png"]


def test_order_is_that_of_the_bytes_of_whole_paths(tmp_path: Path) -> None:
    names = ["a/z.png", "a.png", "a-b/x.png", "a0.png", "b/c/d.png", "b/c.png", "B.png", "é.png"]
    touch(tmp_path, *names)
    assert images_of(tmp_path) == sorted(os.fsencode(name) for name in names)


LISTED = (
    "png jpg jpeg bmp gif tif tiff webp pgm ppm "
    "heic heif avif jp2 j2k pbm pnm dib apng ico tga psd dng"
)


@pytest.mark.parametrize("extension", LISTED.split())
def test_extension_counts_in_any_case(tmp_path: Path, extension: str) -> None:
    touch(tmp_path, f"a.{extension}", f"b.{extension.upper()}", f"c.{extension}x")
    listing = open_folders([tmp_path])
    assert len(listing.images) == 2
    assert list(listing.ignored) == [b"c.%bx" % extension.encode()]


def test_file_that_is_named_is_tried_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "a/.hidden", "a/other.txt", "README")
    assert images_of(tmp_path / "notes.txt") == [b"notes.txt"]
    found = images_of(tmp_path / "README", tmp_path / "a", tmp_path / "a" / ".hidden")
    assert found == [b"README", b"a/.hidden"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, ".a.png", ".hidden/b.png", "c/.d.png", "e.png")
    assert images_of(tmp_path) == [b"e.png"]


def test_single_file_is_listed_by_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.png", "sub/b.png")
    listing = open_folders([tmp_path / "sub" / "a.png"])
    assert list(listing.images) == [b"a.png"]
    assert listing.path(0) == os.fsencode(tmp_path / "sub" / "a.png")


def test_several_sources_are_relative_to_their_common_folder(tmp_path: Path) -> None:
    touch(tmp_path, "one/1.png", "two/1.png", "two/3/4.png", "five.png")
    found = images_of(tmp_path / "two", tmp_path / "one", tmp_path / "five.png")
    assert found == [b"five.png", b"one/1.png", b"two/1.png", b"two/3/4.png"]


def test_file_that_several_sources_reach_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/b/2.png")
    sources = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "1.png"]
    assert images_of(*sources) == [b"1.png", b"b/2.png"]


def test_same_file_named_twice_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    assert images_of(tmp_path / "1.png", tmp_path / "1.png") == [b"1.png"]


def test_relative_source_with_dots_opens_the_right_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "images/1.png", "elsewhere/deep/x.txt")
    os.symlink(tmp_path / "elsewhere" / "deep", tmp_path / "link")
    touch(tmp_path, "elsewhere/images/2.png")
    monkeypatch.chdir(tmp_path)
    # As the kernel sees it, link/.. is elsewhere, not the folder that holds the link.
    assert images_of(Path("link/../images")) == [b"2.png"]
    assert images_of(Path("./images/../images")) == [b"1.png"]


def test_excluded_output_never_becomes_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "report.png", "sub/report.png")
    assert images_of(tmp_path, exclude=[tmp_path / "report.png"]) == [b"a.png", b"sub/report.png"]


def test_excluded_output_is_left_out_under_its_links_too(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "report.csv", "in/notes.csv")
    os.symlink("../report.csv", tmp_path / "in" / "report.png")
    listing = open_folders(
        [tmp_path / "in"], exclude=[tmp_path / "in" / "report.png", tmp_path / "in" / "notes.csv"]
    )
    assert list(listing.images) == [b"a.png"]
    assert list(listing.ignored) == []


def test_linked_folder_is_entered_only_when_asked(tmp_path: Path) -> None:
    touch(tmp_path, "outside/1.png", "in/2.png")
    os.symlink(tmp_path / "outside", tmp_path / "in" / "link")
    listing = open_folders([tmp_path / "in"])
    assert list(listing.images) == [b"2.png", b"link"]
    assert list(listing.ignored) == []
    assert images_of(tmp_path / "in", follow_symlinks=True) == [b"2.png", b"link/1.png"]


def test_linked_file_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    os.symlink(tmp_path / "1.png", tmp_path / "2.png")
    assert images_of(tmp_path) == [b"1.png", b"2.png"]


def test_loops_of_links_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    os.symlink(tmp_path, tmp_path / "a" / "up")
    os.symlink("self", tmp_path / "self")
    os.symlink("me.png", tmp_path / "me.png")
    assert images_of(tmp_path) == [b"a/1.png", b"me.png"]
    assert images_of(tmp_path, follow_symlinks=True) == [b"a/1.png", b"me.png"]


def test_folder_that_cannot_be_listed_stays_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "closed/1.png", "d.png")
    refuse_to_list(b"closed", monkeypatch)
    assert images_of(tmp_path) == [b"a.png", b"closed/", b"d.png"]


def test_depth_is_limited_by_the_file_system_alone(tmp_path: Path) -> None:
    depth = 1200  # more than Python's recursion limit, which its own makedirs and rmtree hit
    levels = f"{tmp_path}/deep" + "/d" * depth
    subprocess.run(["mkdir", "-p", levels], check=True)
    try:
        Path(levels, "1.png").touch()
        assert images_of(tmp_path / "deep") == [b"d/" * depth + b"1.png"]
    finally:
        subprocess.run(["rm", "-r", f"{tmp_path}/deep"], check=True)


@pytest.mark.parametrize("name", ["missing", "missing/1.png"])
def test_missing_source_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="missing.*No such file"):
        open_folders([tmp_path / name])


def test_unreadable_source_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: bytes) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="Permission denied"):
        open_folders([tmp_path])


def test_folder_that_fails_while_it_is_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = iter([os.scandir])

    def scan_once(folder: bytes) -> object:
        for scan in scans:
            return scan(folder)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", scan_once)
    with pytest.raises(SourceError, match="Input/output"):
        open_folders([tmp_path])


@pytest.mark.parametrize("name", ["a.zip", "b.TAR.GZ", "c.tar"])
def test_archive_must_be_unpacked(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(SourceError, match="is an archive.*; unpack it first"):
        find_images(Job(tmp_path / name))


def test_archive_among_images_does_not_stop_a_run(tmp_path: Path) -> None:
    touch(tmp_path, "a.zip", "1.png")
    assert b"1.png" in find_images(Job((tmp_path / "a.zip", tmp_path / "1.png"))).images


def test_folder_with_the_name_of_an_archive_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "scans.zip/1.png")
    assert list(find_images(Job(tmp_path / "scans.zip")).images) == [b"1.png"]
