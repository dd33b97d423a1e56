"""What is said of sources that are not there."""

import os
from pathlib import Path

import pytest

from batchdigit import SourceError
from batchdigit.sources.folder import open_folders
from batchdigit.sources.missing import meant_by


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an image in a folder below it, and a home."""
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "1.png").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "problem", "remedy"),
    [
        ("imgs/*.png", "has not replaced", "leave its quotes off, or name the folder imgs"),
        ("imgs/?.[pP]ng", "has not replaced", "leave its quotes off, or name the folder imgs"),
        ("imgs/*.jpg", "matches no file", "name the folder imgs"),
        ("*.jpg", "matches no file", "name the folder ."),
        ("nowhere/*.jpg", "matches no file", "there is no folder nowhere"),
        ("s3://bucket/digits", "an address", "fetch it first (aws s3 sync), then name"),
        ("s3:/bucket/digits", "an address", "fetch it first (aws s3 sync), then name"),
        ("gs://bucket/digits", "an address", "fetch it first (gcloud storage cp -r), then name"),
        ("az://container/digits", "an address", "fetch it first (azcopy copy), then name"),
        ("https://example.org/7.png", "an address", "fetch it first (curl -O), then name"),
        ("sftp://example.org/7.png", "an address", "fetch it first, then name"),
        ("file:///data/my%20digits", "an address", "give the path /data/my digits"),
        ("~/imgs", "has not replaced ~", "leave its quotes off, or write /home/somebody/imgs"),
        ("~no-such-user/imgs", "has not replaced ~", "write the whole path"),
        ("imgs\n", r"'imgs\n'", "leave out the white space around imgs"),
        (" imgs", "' imgs'", "leave out the white space around imgs"),
        ("imgs/1.png\nimgs/2.png", r"'imgs/1.png\nimgs/2.png'", "name each file by itself"),
        ('"imgs"', '"imgs"', "leave out the quotes around imgs"),
        ("'imgs'", "'imgs'", "leave out the quotes around imgs"),
        ("$DIR/imgs", "has not replaced $DIR", "use double quotes, or none"),
        ("${DIR}", "has not replaced ${DIR}", "use double quotes, or none"),
        ("-", "standard input", "name a folder or image files"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_source_that_is_not_there_says_what_was_meant(
    source: str, problem: str, remedy: str
) -> None:
    with pytest.raises(SourceError) as caught:
        open_folders([source])
    assert problem in meant_by(source)[0]  # type: ignore[index]
    assert remedy in caught.value.remedy
    assert caught.value.exit_code == 66


@pytest.mark.usefixtures("folder")
def test_name_that_looks_like_nothing_else_is_just_not_there() -> None:
    for name in ("scans", "scans/7.png", "C:/scans", "a:b", "7'.png", "100%"):
        assert meant_by(name) is None
        with pytest.raises(SourceError, match="name an existing, readable folder or image file"):
            open_folders([name])


@pytest.mark.parametrize("name", ["[1].png", "~x.png", "'q'.png", "$HOME.png", " 7.png"])
def test_file_that_is_there_is_read_whatever_its_name(folder: Path, name: str) -> None:
    (folder / name).touch()
    assert open_folders([name]).path(0) == os.fsencode(folder / name)
