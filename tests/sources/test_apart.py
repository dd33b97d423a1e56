"""Outputs are no images of the source."""

from pathlib import Path

import pytest

from batchdigit import UsageError
from batchdigit.places import STDOUT
from batchdigit.sources.apart import check_apart


@pytest.mark.parametrize(
    "name", ["1.png", "a/2.JPEG", "new.tif", "link", "../in/1.png", "scan", "3.png?"]
)
def test_images_of_the_source_are_no_outputs(tmp_path: Path, name: str) -> None:
    source = tmp_path / "in"
    (source / "a").mkdir(parents=True)
    for there in ("1.png", "a/2.JPEG"):
        (source / there).touch()
    for there in ("scan", "3.png?"):
        (source / there).write_bytes(b"\x89PNG\r\n\x1a\n")
    (source / "link").symlink_to("1.png")
    with pytest.raises(UsageError, match="--out .* an image in"):
        check_apart("--out", source / name, ["elsewhere", str(source)])


def test_source_itself_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "scan").touch()
    (tmp_path / "link").symlink_to("scan")
    for name in ("scan", "link"):
        with pytest.raises(UsageError, match="--log-file .* is what is to be read"):
            check_apart("--log-file", tmp_path / name, [tmp_path / "scan"])


@pytest.mark.parametrize("name", ["in/preds.csv", "in/log", "other/1.png", "in2/1.png", "1.png"])
def test_other_files_are(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "log").write_text("hello")
    check_apart("--out", tmp_path / name, [str(tmp_path / "in"), "s3://bucket/in"])


def test_there_need_not_be_an_output(tmp_path: Path) -> None:
    check_apart("--out", None, [tmp_path])
    check_apart("--out", STDOUT, ["."])
