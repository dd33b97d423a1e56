"""No link leads out of a source, not even one that takes a folder's place while it is read."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from batchdigit.errors import ImageError
from batchdigit.sources.beneath import MAX_OPEN, Beneath
from batchdigit.sources.contents import read_file
from batchdigit.sources.folder import FolderSource, open_folders
from batchdigit.sources.stamps import UNKNOWN
from tests.support.platforms import needs_linux


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images, and outside of it one with a file of the same name."""
    for folder in ("images/sub/deep", "outside/deep"):
        (tmp_path / folder).mkdir(parents=True)
    for path in ("images/a.png", "images/sub/b.png", "images/sub/deep/c.png"):
        (tmp_path / path).write_bytes(b"inside")
    for path in ("outside/b.png", "outside/deep/c.png"):
        (tmp_path / path).write_bytes(b"outside")
    return tmp_path / "images"


def contents(source: FolderSource) -> dict[bytes, bytes | str]:
    found = source.contents(range(len(source)), max_bytes=100)
    return {
        name: content.message if isinstance(content, ImageError) else content
        for name, content in zip(source.images, found, strict=True)
    }


def swap(folder: Path, target: Path) -> None:
    folder.rename(folder.with_name(folder.name + "-before"))
    folder.symlink_to(target)


LINK = "a folder on its path is a link, or no folder"


@pytest.mark.parametrize("opened", [True, False], ids=["read before", "not read before"])
def test_folder_that_becomes_a_link_is_not_followed(root: Path, opened: bool) -> None:
    source = open_folders([str(root)])
    inside = {b"a.png": b"inside", b"sub/b.png": b"inside", b"sub/deep/c.png": b"inside"}
    if opened:
        assert contents(source) == inside
    swap(root / "sub", root.parent / "outside")
    assert read_file(os.fsencode(root / "sub" / "b.png")) == b"outside"  # the control
    source = pickle.loads(pickle.dumps(source))  # as for another process
    assert contents(source) == {b"a.png": b"inside", b"sub/b.png": LINK, b"sub/deep/c.png": LINK}
    stamps = source.stamps(range(3))
    assert stamps.sizes.tolist() == [6, UNKNOWN, UNKNOWN]


def test_folder_that_is_open_stays_the_one_that_was_opened(root: Path) -> None:
    source = open_folders([str(root)])
    found = source.contents([1, 2], max_bytes=100)
    assert next(found) == b"inside"
    swap(root / "sub", root.parent / "outside")
    assert next(found) == b"inside"


def test_root_that_is_replaced_is_noticed(root: Path) -> None:
    source = open_folders([str(root)])
    swap(root, root.parent / "outside")
    elsewhere = pickle.loads(pickle.dumps(source))
    assert set(contents(elsewhere).values()) == {"the folder of the source is another one now"}
    assert set(contents(source).values()) == {b"inside"}  # whose root is open


def test_folder_that_becomes_a_link_while_it_is_listed_is_not_entered(root: Path) -> None:
    beneath = Beneath(os.fsencode(root))
    with beneath.entries(b"") as found:
        assert {entry.name for entry in found if entry.is_dir(follow_symlinks=False)} == {"sub"}
    swap(root / "sub", root.parent / "outside")
    with pytest.raises(OSError, match="is a link, or no") as caught, beneath.entries(b"sub"):
        raise AssertionError
    assert caught.value.errno in (errno.ENOTDIR, errno.ELOOP)


def test_links_that_the_user_names_are_followed_to_where_they_lead(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    (root.parent / "more").symlink_to(root.parent)
    for sources in (["link"], ["link", "outside"], ["more/images", "outside"], ["link/a.png", "."]):
        paths = [str(root.parent / source) for source in sources]
        found = contents(open_folders(paths))
        assert b"inside" in found.values(), sources
        assert not any(isinstance(content, str) for content in found.values()), sources


def test_link_to_a_file_that_the_user_names_is_followed_and_no_other(root: Path) -> None:
    (root / "link.png").symlink_to(root.parent / "outside" / "b.png")
    (root / "other.png").symlink_to(root.parent / "outside" / "b.png")
    source = pickle.loads(pickle.dumps(open_folders([str(root / "link.png"), str(root)])))
    found = contents(source)
    assert found[b"link.png"] == b"outside"
    assert found[b"other.png"] == "a symbolic link, which is read only with --follow-symlinks"
    place = list(source.images).index(b"link.png")
    assert source.stamps([place]).sizes.tolist() == [len("outside")]
    assert contents(open_folders([str(root / "link.png")])) == {b"link.png": b"outside"}
    (chosen,) = source.at([place]).contents([0], max_bytes=100)
    assert chosen == b"outside"


def test_file_that_the_user_names_is_not_followed_once_it_becomes_a_link(root: Path) -> None:
    source = open_folders([str(root / "a.png")])
    swap(root / "a.png", root.parent / "outside" / "b.png")
    assert contents(source) == {
        b"a.png": "a symbolic link, which is read only with --follow-symlinks"
    }


def test_named_link_to_what_is_no_file_is_refused(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "link.png").symlink_to("fifo")
    found = contents(open_folders([str(root / "link.png")]))
    assert found == {b"link.png": "not a regular file but a FIFO"}


def test_links_below_them_are_not(root: Path) -> None:
    (root / "sub" / "link").symlink_to(root.parent / "outside")
    (root / "link.png").symlink_to(root.parent / "outside" / "b.png")
    found = contents(open_folders([str(root)]))
    assert found[b"link.png"] == "a symbolic link, which is read only with --follow-symlinks"
    assert b"sub/link/b.png" not in found
    followed = contents(open_folders([str(root)], follow_symlinks=True))
    assert followed[b"link.png"] == followed[b"sub/link/b.png"] == b"outside"


def test_path_may_be_as_long_as_one_that_is_opened_at_once(root: Path) -> None:
    beneath = Beneath(os.fsencode(root))
    with pytest.raises(OSError, match="File name too long"):
        beneath.place(b"d/" * 2_048 + b"a.png")


def opened(root: Path) -> int:
    """How many descriptors this process has of what is below ``root``."""
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith(str(root)) for link in links if os.path.islink(link))


@needs_linux("/proc")
def test_few_folders_are_open_at_a_time(root: Path) -> None:
    for number in range(100):
        (root / f"{number:03}").mkdir()
        (root / f"{number:03}" / "a.png").touch()
    source = open_folders([str(root)])
    contents(source)
    assert opened(root) == 3  # the root, sub, and sub/deep
    deep = root / "/".join("x" * 50)
    deep.mkdir(parents=True)
    (deep / "a.png").touch()
    deeper = open_folders([str(root)])
    contents(deeper)
    assert opened(root) == 3 + 1 + MAX_OPEN
    del source, deeper
    assert opened(root) == 0
