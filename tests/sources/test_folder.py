"""The files below a folder, compared with os.walk and a sort of whole paths."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.errors import SourceError
from batchdigit.sources.beneath import Beneath
from batchdigit.sources.folder import locate, walk
from tests.support.samples import refuse_to_list

# Characters whose order matters: a dash sorts before the slash, a letter after it.
NAMES = st.text("a-Bé.", min_size=1, max_size=3).filter(lambda name: name.strip("."))
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=12)


def below(folder: Path, *, place: Path | None = None, follow_symlinks: bool = False) -> list[bytes]:
    beneath = Beneath(os.fsencode(folder), follow=follow_symlinks)
    return list(walk(beneath, os.fsencode(place or folder)))


def visible_files(folder: bytes) -> Iterator[bytes]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(b".")]
        for name in names:
            if not name.startswith(b"."):
                yield os.path.relpath(os.path.join(parent, name), folder)


@given(PATHS)
def test_files_come_in_the_order_of_their_whole_paths(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            made = Path(folder, path)
            if not any(parent.is_file() for parent in made.parents) and not made.exists():
                made.parent.mkdir(parents=True, exist_ok=True)
                made.touch()
        assert below(Path(folder)) == sorted(visible_files(os.fsencode(folder)))


def test_part_of_the_tree_keeps_its_paths(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/b/2.png", "c/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert below(tmp_path, place=tmp_path / "a") == [b"a/1.png", b"a/b/2.png"]
    assert below(tmp_path, place=tmp_path / "a" / "1.png") == [b"a/1.png"]


def test_folder_with_the_name_of_an_image_is_listed_and_entered(tmp_path: Path) -> None:
    (tmp_path / "a.PNG").mkdir()
    (tmp_path / "a.PNG" / "1.png").touch()
    (tmp_path / "a.txt").mkdir()
    assert below(tmp_path) == [b"a.PNG", b"a.PNG/1.png"]


def test_folder_that_cannot_be_listed_is_a_name_with_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "1.png").touch()
    refuse_to_list(b"closed", monkeypatch)
    assert below(tmp_path) == [b"closed/"]
    with pytest.raises(SourceError, match=r"cannot read .*closed: Permission denied"):
        below(tmp_path, place=tmp_path / "closed")


def test_linked_folders_are_entered_when_asked_but_never_twice_on_a_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to("a")
    assert below(tmp_path) == [b"a/1.png", b"a/up", b"b"]
    assert below(tmp_path, follow_symlinks=True) == [b"a/1.png", b"b/1.png"]


def test_source_is_located_where_the_system_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    monkeypatch.chdir(tmp_path)
    assert locate("real") == os.fsencode(tmp_path / "real")
    assert locate("link") == os.fsencode(tmp_path / "link")
    assert locate("link/..") == os.path.realpath(os.fsencode(tmp_path / "real"))
    with pytest.raises(SourceError, match="cannot read missing: No such file"):
        locate("missing")
