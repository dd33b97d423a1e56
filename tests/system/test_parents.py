"""Folders that outputs need, made on request."""

import os
import sys
from pathlib import Path

import pytest

from batchdigit import OutputError
from batchdigit.places import STDOUT
from batchdigit.system.parents import parents_made
from batchdigit.system.publish import Publication, check_target


def publish(path: Path) -> None:
    with Publication() as publication:
        publication.create(path).write(b"new")
        publication.publish()


def test_missing_folders_are_made(tmp_path: Path) -> None:
    out, log = tmp_path / "a" / "b" / "out.csv", tmp_path / "a" / "c" / "run.log"
    with parents_made(out, None, log, STDOUT, wanted=True):
        publish(out)
        log.touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "a",
        "b",
        "c",
        "out.csv",
        "run.log",
    ]


def test_missing_folders_are_made_only_on_request(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out.csv"
    with (
        parents_made(out, wanted=False),
        pytest.raises(OutputError, match="create its folder first, or add --parents"),
    ):
        check_target(out)
    assert os.listdir(tmp_path) == []


def test_folders_that_stay_empty_go_when_the_work_fails(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with (
        pytest.raises(RuntimeError),
        parents_made(tmp_path / "mine" / "a" / "b" / "out.csv", wanted=True),
    ):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["mine"]
    assert os.listdir(tmp_path / "mine") == []


def test_folders_with_something_in_them_stay(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out.csv"
    with pytest.raises(RuntimeError), parents_made(out, tmp_path / "c" / "x", wanted=True):
        (tmp_path / "a" / "run.log").touch()
        raise RuntimeError
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert os.listdir(tmp_path / "a") == ["run.log"]


def test_folder_beyond_a_link_of_ones_own_is_made_there(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with parents_made(tmp_path / "link" / "new" / "out.csv", wanted=True):
        pass
    assert (tmp_path / "disk" / "new").is_dir()


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="gives a link to another user, as root"
)
def test_link_that_another_user_planted_is_not_followed(tmp_path: Path) -> None:
    everybodys, private = tmp_path / "everybodys", tmp_path / "private"
    for folder in (everybodys, private):
        folder.mkdir()
    everybodys.chmod(0o1777)
    os.chown(everybodys, 1234, 1234)
    (everybodys / "link").symlink_to(private)
    os.lchown(everybodys / "link", 4321, 4321)
    with (
        pytest.raises(OutputError, match="a link of another user"),
        parents_made(everybodys / "link" / "new" / "out.csv", wanted=True),
    ):
        pass
    assert os.listdir(private) == []


def test_link_that_appears_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, mkdir = tmp_path / "private", os.mkdir
    private.mkdir()

    def be_late(path: Path) -> None:
        if path.name == "a":
            path.symlink_to(private)
        mkdir(path)

    monkeypatch.setattr(os, "mkdir", be_late)
    with pytest.raises(OutputError), parents_made(tmp_path / "a" / "b" / "out.csv", wanted=True):
        pass
    assert os.listdir(private) == []


def test_folder_that_another_run_has_just_made_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, out = os.mkdir, tmp_path / "a" / "b" / "out.csv"

    def make_it_twice(path: Path) -> None:
        mkdir(path)
        mkdir(path)

    monkeypatch.setattr(os, "mkdir", make_it_twice)
    with parents_made(out, wanted=True):
        assert out.parent.is_dir()


def test_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (
        pytest.raises(OutputError, match="Not a directory; remove what stands in its way"),
        parents_made(tmp_path / "a" / "b" / "out.csv", wanted=True),
    ):
        check_target(tmp_path / "a" / "b" / "out.csv")


def test_address_is_no_folder_to_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(OutputError, match="is an address, and nothing is sent; write to a file"),
        parents_made(Path("s3://bucket/preds.csv"), wanted=True),
    ):
        pass
    with pytest.raises(OutputError, match="is an address"):
        check_target(Path("s3://bucket/preds.csv"))
    assert os.listdir(tmp_path) == []
