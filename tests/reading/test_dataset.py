"""A batch: those of some files that could be used, and those that failed."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchdigit.batches import Digit
from batchdigit.errors import ImageError
from batchdigit.images.decode import decode_image, strict_pillow
from batchdigit.images.preprocess import to_model_input
from batchdigit.job import PREPROCESSING, Reading
from batchdigit.models.digits import packaged_digits
from batchdigit.reading.clocks import FileClocks
from batchdigit.reading.dataset import DigitImages
from batchdigit.sources.contents import read_file
from batchdigit.sources.folder import FolderSource
from tests.support.fakes import DictSource, decode_by
from tests.support.samples import SAMPLES, files_in, save_grey

EXACT = Reading(preprocess="exact")  # noise is no digit and cannot be fitted


def test_batch_holds_what_could_be_used_and_what_failed(files: FolderSource) -> None:
    batch = DigitImages(files, EXACT).__getitems__(range(10))
    assert batch.indices.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert batch.indices.dtype == np.int64
    assert batch.images.shape == (8, 1, 28, 28)
    assert batch.images.dtype == np.uint8
    assert [(failure.index, failure.stage) for failure in batch.failures] == [
        (3, "decode"),
        (7, "read"),
    ]


def test_image_stands_at_the_place_of_its_index(files: FolderSource, tmp_path: Path) -> None:
    batch = DigitImages(files, EXACT).__getitems__(range(10))
    for row, index in enumerate(batch.indices.tolist()):
        expected = save_grey(tmp_path / "again.png", seed=index)
        assert np.array_equal(batch.images[row, 0], expected)


def test_name_of_a_file_tells_what_its_bytes_do_not(tmp_path: Path) -> None:
    pixels = packaged_digits()[7, 0]
    for name in ("a.tga", "b.dib"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes((tmp_path / "a.tga").read_bytes())
    batch = DigitImages(files_in(tmp_path, [b"a.tga", b"b.dib", b"c.png"])).__getitems__(range(3))
    assert np.array_equal(batch.images[:, 0], [pixels, pixels])
    assert [failure.index for failure in batch.failures] == [2]


def test_batch_may_be_empty(tmp_path: Path) -> None:
    batch = DigitImages(files_in(tmp_path, [b"a.png"]))[0]
    assert len(batch) == 0
    assert batch.images.shape == (0, 1, 28, 28)
    assert len(batch.failures) == 1


def test_unforeseen_exception_becomes_a_failure(
    files: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_image: object, _how: str) -> None:
        raise ZeroDivisionError("surprise")

    for function in ("to_model_input", "to_pixels"):
        with monkeypatch.context() as patched:
            patched.setattr(f"batchdigit.reading.dataset.{function}", fail)
            batch = DigitImages(files).__getitems__([0])
            assert batch.failures[0].text == "decode: ZeroDivisionError: surprise"


@pytest.mark.parametrize("how", PREPROCESSING)
def test_image_of_a_batch_is_what_it_is_by_itself(how: str, tmp_path: Path) -> None:
    digits = packaged_digits()[:60, 0]
    random = np.random.default_rng(2)
    pictures: dict[str, Image.Image] = {}
    for number, digit in enumerate(digits):
        image = Image.fromarray(digit)
        pictures |= {
            f"{number}.png": image,
            f"{number}.bmp": image,  # not decoded as a plain PNG
            f"{number}-rgb.png": image.convert("RGB"),
            f"{number}-dark.png": Image.fromarray(~digit),
            f"{number}-moved.png": Image.fromarray(
                np.roll(digit, random.integers(-4, 5, 2), (0, 1))
            ),
            f"{number}-large.png": image.resize((70, 60)),
            f"{number}-blank.png": Image.new("L", (28, 28), number),
            f"{number}-noise.png": Image.fromarray(
                random.integers(0, 256, (28, 28), dtype=np.uint8)
            ),
        }
    for name, image in pictures.items():
        image.save(tmp_path / name)
        if random.integers(6) == 0:
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-30])
    names = sorted([*pictures, "missing.png"])
    expected: list[Digit | str] = []
    for name in names:
        try:
            with strict_pillow():
                image = decode_image(read_file(os.fsencode(tmp_path / name)))
            expected.append(to_model_input(image, how))
        except ImageError as error:
            expected.append(f"{error.stage}: {error.message}")
    files = files_in(tmp_path, map(os.fsencode, names))
    batch = DigitImages(files, Reading(preprocess=how)).__getitems__(range(len(names)))
    found: list[object] = [None] * len(names)
    for failure in batch.failures:
        found[failure.index] = failure.text
    for row, index in enumerate(batch.indices.tolist()):
        found[index] = batch.images[row, 0], *batch.facts[row]
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, Digit):
            assert isinstance(one, tuple)
            assert np.array_equal(one[0], other.pixels)
            assert one[1] == other.treatment
            assert np.array_equal(one[2], np.float32(other.ink), equal_nan=True)
        else:
            assert one == other
    assert {failure.stage for failure in batch.failures} >= {"read", "decode"}
    assert np.all(np.diff(batch.indices) > 0)
    assert batch.failures == tuple(sorted(batch.failures, key=lambda failure: failure.index))


def test_limits_are_failures(files: FolderSource, tmp_path: Path) -> None:
    size = (tmp_path / "00.png").stat().st_size
    batch = DigitImages(files, Reading(max_bytes=size - 1)).__getitems__([0])
    assert batch.failures[0].text.startswith(f"too-large: {size} bytes")
    batch = DigitImages(files, Reading(max_pixels=783)).__getitems__([0])
    assert batch.failures[0].text == "too-large: more than 783 pixels"


def test_links_are_read_only_when_asked(files: FolderSource, tmp_path: Path) -> None:
    (tmp_path / "07.png").symlink_to("00.png")
    assert "--follow-symlinks" in DigitImages(files, EXACT).__getitems__([7]).failures[0].text
    followed = files_in(tmp_path, files.images, follow_symlinks=True)
    batch = DigitImages(followed, EXACT).__getitems__([0, 7])
    assert np.array_equal(batch.images[0], batch.images[1])


def test_work_is_counted_by_stage(files: FolderSource) -> None:
    busy = DigitImages(files).__getitems__(range(10)).busy
    assert set(busy) == {"read", "decode", "fit"}
    assert all(seconds > 0 for seconds in busy.values())


def test_clock_tells_which_file_is_being_read(
    files: FolderSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clocks = FileClocks(3, None)
    told: list[int | None] = []
    decode_by(monkeypatch, {b"look": lambda: told.append(clocks.file(2))})
    for number in (5, 9):
        (tmp_path / f"{number:02}.png").write_bytes(b"look")
    digits = DigitImages(files, EXACT)
    digits.report_to(clocks, 2)
    assert clocks.is_silent(2, 0.0, since=0.0)
    batch = digits.__getitems__([4, 5, 9])
    assert told == [5, 9]
    assert clocks.is_silent(2, 0.0, since=0.0)
    assert [failure.index for failure in batch.failures] == [5, 9]


def test_one_file_may_be_asked_for(files: FolderSource) -> None:
    digits = DigitImages(files, EXACT)
    assert len(digits) == 10
    assert digits[3].failures[0].index == 3
    assert digits[4].indices.tolist() == [4]


class Failing(DictSource):
    """Raises what no source should at the third image, and ends before the last one."""

    def contents(self, indices: Sequence[int], *, max_bytes: int) -> Iterator[bytes | ImageError]:
        for index in indices:
            if index == 2:
                raise ConnectionResetError("the peer hung up")
            if index == 4:
                raise ImageError("timeout", "the peer is silent")
            if index == len(self) - 1:
                return
            yield from super().contents([index], max_bytes=max_bytes)


def test_source_that_fails_costs_no_other_image() -> None:
    digit = (SAMPLES / "0-label-0.png").read_bytes()
    source = Failing({b"%d.png" % number: digit for number in range(6)})
    batch = DigitImages(source).__getitems__(range(6))
    assert batch.indices.tolist() == [0, 1, 3]
    assert [failure.text for failure in batch.failures] == [
        "read: ConnectionResetError: the peer hung up",
        "timeout: the peer is silent",
        "read: the source ended before this image",
    ]
