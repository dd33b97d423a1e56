"""A batch: those of some files that could be used, and those that failed."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchdigit.batches import Batch, Digit, Failure, join_batches
from batchdigit.errors import ImageError
from batchdigit.images.decode import decode_image, strict_pillow
from batchdigit.images.preprocess import to_model_input
from batchdigit.job import Reading
from batchdigit.modelfiles.declaration import PREPROCESSING
from batchdigit.models.digits import packaged_digits
from batchdigit.models.spec import MNIST, InputSpec
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
    def fail(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    for function in ("to_model_input", "to_pixels"):
        with monkeypatch.context() as patched:
            patched.setattr(f"batchdigit.reading.dataset.{function}", fail)
            batch = DigitImages(files).__getitems__([0])
            assert batch.failures[0].text == "decode: ZeroDivisionError: surprise"


SPECS = [
    MNIST,
    InputSpec((32, 32), 3),
    InputSpec((32, 20), transpose=True),
    InputSpec((32, 32), place="pad"),
    InputSpec((28, 28), 3, expects="dark-on-light", layout="nhwc"),
]
"""What networks take."""


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
@pytest.mark.parametrize("how", PREPROCESSING)
def test_image_of_a_batch_is_what_it_is_by_itself(
    how: str, spec: InputSpec, tmp_path: Path
) -> None:
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
            expected.append(to_model_input(image, how, spec))
        except ImageError as error:
            expected.append(f"{error.stage}: {error.message}")
    files = files_in(tmp_path, map(os.fsencode, names))
    batch = DigitImages(files, Reading(preprocess=how), spec).__getitems__(range(len(names)))
    channels = spec.channels if how == "exact" else 1
    assert batch.images.shape[1:] == (channels, *spec.plane)
    found: list[object] = [None] * len(names)
    for failure in batch.failures:
        found[failure.index] = failure.text
    for row, index in enumerate(batch.indices.tolist()):
        found[index] = batch.images[row], *batch.facts[row]
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, Digit):
            assert isinstance(one, tuple)
            assert np.array_equal(one[0], with_channels(other.pixels, channels))
            assert one[1] == other.treatment
            assert np.array_equal(one[2], np.float32(other.ink), equal_nan=True)
        else:
            assert one == other
    assert {failure.stage for failure in batch.failures} >= {"read", "decode"}
    assert np.all(np.diff(batch.indices) > 0)
    assert batch.failures == tuple(sorted(batch.failures, key=lambda failure: failure.index))


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """An image uint8[H, W] or uint8[H, W, 3] as uint8[C, H, W]."""
    layers = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.moveaxis(np.broadcast_to(layers, (*pixels.shape[:2], channels)), 2, 0)


@pytest.mark.parametrize("how", PREPROCESSING)
def test_images_have_colours_where_they_are_not_fitted(how: str, tmp_path: Path) -> None:
    red = np.zeros((28, 28, 3), np.uint8)
    red[4:24, 12:16, 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    Image.fromarray(packaged_digits()[7, 0]).save(tmp_path / "grey.png")
    files = files_in(tmp_path, [b"grey.png", b"red.png"])
    batch = DigitImages(files, Reading(preprocess=how), InputSpec(channels=3)).__getitems__([0, 1])
    if how == "exact":
        assert np.array_equal(batch.images[0], np.repeat(packaged_digits()[7], 3, axis=0))
        assert np.array_equal(batch.images[1], red.transpose(2, 0, 1))
    else:
        assert batch.images.shape == (2, 1, 28, 28)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.text)
@pytest.mark.parametrize("how", PREPROCESSING)
def test_batch_of_failures_joins_those_of_any_size(
    files: FolderSource, how: str, spec: InputSpec
) -> None:
    digits = DigitImages(files, Reading(preprocess=how), spec)
    failed = Batch.failed(Failure(9, "timeout", "killed its process"))
    none, some = digits.__getitems__([3, 7]), digits.__getitems__([4, 5])
    assert none.images.shape == (0, *digits.shape)
    for parts in ([none, failed], [failed, some], [some, failed], [none, some, failed]):
        joined = join_batches(parts)
        images = sum(map(len, parts))
        assert len(joined.images) == len(joined) == images
        assert not images or np.array_equal(joined.images, some.images)
        assert len(joined.failures) == sum(len(part.failures) for part in parts)


def test_memory_for_a_batch_grows_with_its_images(files: FolderSource) -> None:
    small = DigitImages(files, EXACT)
    large = DigitImages(files, EXACT, InputSpec((224, 224), 3))
    assert large.memory(0) == small.memory(0)
    pixels = 3 * 224 * 224 - 28 * 28
    assert large.memory(100) - small.memory(100) >= 100 * pixels
    fitted = DigitImages(files, Reading(preprocess="fit"), InputSpec((224, 224), 3))
    assert fitted.memory(100) < large.memory(100)


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
