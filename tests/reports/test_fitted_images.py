import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchdigit import Job, OutputError, UsageError, run
from batchdigit.images.preprocess import to_model_input
from batchdigit.reports import fitted_images
from tests.support.reports import OLD
from tests.support.samples import Program


def test_saved_image_is_what_the_network_saw(digits: Path, tmp_path: Path) -> None:
    (digits / "sub").mkdir()
    inverted = Image.fromarray(~np.asarray(Image.open(digits / "03.png"))).resize((90, 90))
    inverted.save(digits / "sub" / "3.jpg")
    (digits / "damaged.png").write_bytes(b"damaged")
    run(Job((digits,), tmp_path / "out.csv", save_fitted=tmp_path / "a" / "fitted"))
    saved = sorted(str(p.relative_to(tmp_path / "a")) for p in tmp_path.glob("a/**/*.png"))
    names = [f"fitted/{number:02}.png.fitted.png" for number in range(10)]
    assert saved == [*names, "fitted/sub/3.jpg.fitted.png"]
    for name in ("00.png", "sub/3.jpg"):
        seen = to_model_input(Image.open(digits / name)).pixels
        stored = Image.open(tmp_path / "a" / "fitted" / f"{name}.fitted.png")
        assert stored.mode == "L"
        assert np.array_equal(np.asarray(stored), seen)


@pytest.mark.parametrize("inside", ["fitted", "."])
def test_folder_in_the_source_is_refused(digits: Path, tmp_path: Path, inside: str) -> None:
    with pytest.raises(UsageError, match="next run would read it"):
        run(Job((digits,), tmp_path / "out.csv", save_fitted=digits / inside))
    assert sorted(os.listdir(tmp_path)) == ["digits"]


def test_folder_that_cannot_be_written_keeps_the_old_report(
    program: Program, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.csv").write_text(OLD)
    (tmp_path / "file").touch()
    done = program("run", digits, "--out", "out.csv", "--save-fitted", "file/fitted")
    assert done.returncode == 73
    assert "file/fitted" in done.stderr.splitlines()[-1]
    assert (tmp_path / "out.csv").read_text() == OLD
    with pytest.raises(OutputError):
        run(Job((digits,), tmp_path / "out.csv", save_fitted=tmp_path / "file"))


@pytest.mark.parametrize("plant", ["fifo", "link", "hard link", "folder", "linked folder"])
def test_what_is_planted_in_the_folder_is_not_written_to(
    digits: Path, tmp_path: Path, plant: str
) -> None:
    (digits / "sub").mkdir()
    (digits / "00.png").rename(digits / "sub" / "00.png")
    precious, fitted = tmp_path / "precious", tmp_path / "fitted"
    precious.mkdir()
    (precious / "00.png.fitted.png").write_text("precious")
    path = fitted / "sub" / "00.png.fitted.png"
    (fitted if plant == "linked folder" else path.parent).mkdir(parents=True)
    if plant == "fifo":
        os.mkfifo(path)
    elif plant == "link":
        path.symlink_to(precious / path.name)
    elif plant == "hard link":
        path.hardlink_to(precious / path.name)
    elif plant == "folder":
        path.mkdir()
    else:
        path.parent.symlink_to(precious)
    job = Job((str(digits),), tmp_path / "out.csv", save_fitted=fitted)
    if plant == "hard link":
        with pytest.raises(OutputError, match="exists and is not an image that batchdigit wrote"):
            run(job)
    elif plant in ("folder", "linked folder"):
        with pytest.raises(OutputError, match=f"cannot write {path}") as caught:
            run(job)
        assert caught.value.remedy == "remove what stands in its way"
        assert not (tmp_path / "out.csv").exists()
    else:
        run(job)
        assert path.is_file()
        assert not path.is_symlink()
        with Image.open(path) as image:
            assert image.size == (28, 28)
    assert (precious / path.name).read_text() == "precious"
    assert not list(fitted.rglob(".*"))


def test_images_and_folders_of_one_name_are_both_saved(digits: Path, tmp_path: Path) -> None:
    (digits / "00.png.fitted.png").mkdir()
    (digits / "01.png").rename(digits / "00.png.fitted.png" / "01.png")
    run(Job((str(digits),), tmp_path / "out.csv", save_fitted=tmp_path / "fitted"))
    files = [path for path in (tmp_path / "fitted").rglob("*.png") if path.is_file()]
    assert len(files) == 10


def test_folder_may_be_as_deep_as_a_path_is_long(digits: Path, tmp_path: Path) -> None:
    deep = tmp_path / "y" / "/".join("y" * 1_199)  # more than Python's makedirs and rmtree manage
    try:
        run(Job((str(digits),), tmp_path / "out.csv", save_fitted=deep))
        assert len(os.listdir(deep)) == 10
        deeper = tmp_path / "/".join("y" * 2_100)
        with pytest.raises(OutputError, match="File name too long"):
            run(Job((str(digits),), tmp_path / "out.csv", save_fitted=deeper))
    finally:
        subprocess.run(["rm", "-r", tmp_path / "y"], check=True)


def test_images_of_an_earlier_run_are_replaced_and_others_are_not(
    digits: Path, tmp_path: Path
) -> None:
    fitted = tmp_path / "fitted"

    def save(**options: bool) -> None:
        run(Job((str(digits),), tmp_path / "out.csv", save_fitted=fitted, workers=0, **options))  # type: ignore[arg-type]

    save()
    mine = fitted / "05.png.fitted.png"
    whole = mine.read_bytes()
    mine.write_bytes(b"")
    save()
    assert mine.read_bytes() == whole
    Image.new("RGB", (28, 28)).save(mine)
    drawn = mine.read_bytes()
    with pytest.raises(OutputError, match="05.png.fitted.png exists.*--force"):
        save()
    assert mine.read_bytes() == drawn
    save(force=True)
    assert mine.read_bytes() == whole
    mine.chmod(0o444)
    with pytest.raises(OutputError, match="--force"):
        save()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "exists and is not an image that batchdigit wrote"),
        (errno.EIO, "cannot write .*: Input/output error"),
    ],
)
def test_file_that_cannot_be_read_is_not_replaced(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(*_arguments: object, **_more: object) -> object:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "fitted" / "05.png.fitted.png"
    path.parent.mkdir()
    path.write_text("precious")
    for other in digits.iterdir():
        if other.name != "05.png":
            other.unlink()
    monkeypatch.setattr(fitted_images, "open_regular", refuse)
    with pytest.raises(OutputError, match=message):
        run(Job((str(digits),), tmp_path / "out.csv", save_fitted=path.parent, workers=0))
    assert path.read_text() == "precious"
    run(Job((str(digits),), tmp_path / "out.csv", save_fitted=path.parent, workers=0, force=True))
    assert path.read_bytes().startswith(b"\x89PNG")
