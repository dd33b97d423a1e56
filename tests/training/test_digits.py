import gzip
import multiprocessing
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from batchdigit import SourceError
from batchdigit.training import digits
from batchdigit.training.digits import (
    MNIST_VALIDATION,
    Digits,
    _fitted_variants,
    load_splits,
    variants_of,
)
from tests.support.samples import SAMPLES


def write_mnist(root: Path, train: int = MNIST_VALIDATION + 40, test: int = 20) -> None:
    """A small MNIST in its own file format; image N shows the bytes of N."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = np.zeros((count, 28, 28), dtype=np.uint8)
        pixels[:, 0, 0], pixels[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
        images = struct.pack(">iiii", 2051, count, 28, 28) + pixels.tobytes()
        labels = struct.pack(">ii", 2049, count) + bytes(number % 10 for number in range(count))
        files = {f"{part}-images-idx3-ubyte": images, f"{part}-labels-idx1-ubyte": labels}
        for name, data in files.items():
            (raw / name).write_bytes(data)
            (raw / f"{name}.gz").write_bytes(gzip.compress(data, 1))


def write_folder(root: Path, per_digit: int, digits: range = range(10)) -> None:
    for digit in digits:
        (root / str(digit)).mkdir(parents=True)
        for number in range(per_digit):
            pixels = np.full((28, 28), digit * 20 + number, dtype=np.uint8)
            Image.fromarray(pixels).save(root / str(digit) / f"{number}.png")


def keys(digits: Digits) -> set[tuple[int, int]]:
    return {(int(image[0, 0, 0]), int(image[0, 0, 1])) for image in digits.images}


def test_mnist_is_split_into_its_own_parts_and_a_validation_part(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    splits = load_splits(tmp_path, download=False, seed=0, preprocess="exact")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (40, 5000, 20)
    assert splits.train.images.shape == (40, 1, 28, 28)
    assert splits.train.images.dtype == torch.uint8
    assert splits.train.labels.tolist() == [number % 10 for number in range(40)]
    assert not keys(splits.train) & keys(splits.validation)
    assert (0, 39) in keys(splits.train)
    assert (0, 40) in keys(splits.validation)


def test_labelled_folder_is_split_without_overlap_and_the_same_way_each_time(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path, per_digit=4)
    splits = load_splits(tmp_path, download=False, seed=1, preprocess="exact")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (32, 4, 4)
    for part in (splits.train, splits.validation, splits.test):
        for image, label in zip(part.images, part.labels, strict=True):
            assert int(image[0, 0, 0]) // 20 == int(label)
    parts = [
        {int(image[0, 0, 0]) for image in part.images}
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert len(set.union(*parts)) == 40
    again = load_splits(tmp_path, download=False, seed=1, preprocess="exact")
    assert torch.equal(splits.train.images, again.train.images)


def test_other_files_beside_the_digits_are_left_alone(tmp_path: Path) -> None:
    write_folder(tmp_path, per_digit=3, digits=range(2, 8))
    (tmp_path / "preview.png").write_bytes((tmp_path / "2" / "0.png").read_bytes())
    splits = load_splits(tmp_path, download=False, seed=0, preprocess="exact")
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 18


def test_class_folders_without_images_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    with pytest.raises(SourceError, match="0 usable images"):
        load_splits(tmp_path, download=False, seed=0, preprocess="exact")


def test_folder_of_one_digit_is_labelled_by_its_name(tmp_path: Path) -> None:
    write_folder(tmp_path, per_digit=10, digits=range(7, 8))
    (tmp_path / "preview.png").write_bytes((tmp_path / "7" / "0.png").read_bytes())
    assert set(
        load_splits(tmp_path, download=False, seed=0, preprocess="exact").train.labels.tolist()
    ) == {7}


@pytest.mark.parametrize("name", [".", "missing"])
def test_folder_without_digits_is_an_error_that_tells_of_download(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(SourceError, match="--download"):
        load_splits(tmp_path / name, download=False, seed=0, preprocess="exact")


def test_incomplete_mnist_is_an_error_that_tells_of_download(tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    with pytest.raises(SourceError, match="--download"):
        load_splits(tmp_path, download=False, seed=0, preprocess="exact")


def test_failed_download_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["file:///nowhere/"])
    with pytest.raises(SourceError, match="cannot load MNIST"):
        load_splits(tmp_path, download=True, seed=0)


def test_damaged_training_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, per_digit=2)
    (tmp_path / "3" / "1.png").write_bytes(b"damaged")
    with pytest.raises(SourceError, match=r"3/1\.png"):
        load_splits(tmp_path, download=False, seed=0, preprocess="exact")


def test_too_few_images_are_an_error(tmp_path: Path) -> None:
    write_folder(tmp_path, per_digit=1, digits=range(9))
    with pytest.raises(SourceError, match="too few"):
        load_splits(tmp_path, download=False, seed=0, preprocess="exact")


@pytest.fixture
def some_digits() -> Digits:
    paths = sorted(SAMPLES.glob("*.png"))[:30]
    images = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths]))
    return Digits(images.unsqueeze(1), torch.tensor([int(path.stem[-1]) for path in paths]))


def test_variants_are_the_same_however_many_processes_make_them(
    some_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "VARIANTS_AT_ONCE", 10)
    monkeypatch.setattr(digits, "available_cores", lambda: 2)
    made, others = variants_of(some_digits, 3), variants_of(some_digits, 4)
    assert multiprocessing.active_children() == []
    alone = [
        _fitted_variants((part.images[:, 0].numpy(), part.labels.tolist(), (3, start)))
        for start in (0, 10, 20)
        if (part := some_digits[start : start + 10])
    ]
    assert np.array_equal(made.images[:, 0].numpy(), np.concatenate(alone))
    assert torch.equal(made.labels, some_digits.labels)
    assert made.images.shape == some_digits.images.shape
    assert not torch.equal(made.images, others.images)
    assert not torch.equal(made.images, some_digits.images)


def test_no_images_have_no_variants(some_digits: Digits) -> None:
    assert len(variants_of(some_digits[:0], 3)) == 0


def test_variant_without_strokes_is_the_image_itself(
    some_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "variant", lambda *_: np.zeros((28, 28), np.uint8))
    assert torch.equal(variants_of(some_digits, 3).images, some_digits.images)


KILLED = """
import multiprocessing, os, signal
import cv2, torch
from batchdigit import WorkerError
from batchdigit.training import digits

def die(_part):
    os.kill(os.getpid(), signal.SIGKILL)

# Under the name that the forked process looks up; there it finds the changed function, too.
die.__module__, die.__qualname__ = digits.__name__, "_fitted_variants"
digits._fitted_variants = die
digits.VARIANTS_AT_ONCE = 10
before = cv2.getNumThreads()
try:
    digits.variants_of(digits.Digits(torch.zeros(30, 1, 28, 28), torch.zeros(30)), 3)
except WorkerError as error:
    print(error)
print(multiprocessing.active_children(), cv2.getNumThreads() == before)
"""


def test_killed_process_that_makes_variants_is_an_error() -> None:
    # In a process of its own without other threads, so that it forks.
    done = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=True
    )
    error, rest = done.stdout.splitlines()
    assert "terminated abruptly" in error
    assert rest == "[] True"


def test_training_images_are_fitted_and_a_blank_one_is_named(tmp_path: Path) -> None:
    for path in SAMPLES.glob("*.png"):
        (tmp_path / path.stem[-1]).mkdir(exist_ok=True)
        inverted = Image.fromarray(~np.asarray(Image.open(path))).resize((60, 60))
        inverted.save(tmp_path / path.stem[-1] / path.name)
    images = load_splits(tmp_path, download=False, seed=0).train.images
    assert np.mean([(image[0, :3] > 60).any() for image in images.numpy()]) < 0.3
    Image.new("L", (28, 28)).save(tmp_path / "7" / "nothing.png")
    with pytest.raises(SourceError, match=r"nothing\.png: blank"):
        load_splits(tmp_path, download=False, seed=0)


def idx(kind: int, shape: tuple[int, ...], data: bytes) -> bytes:
    """A file of MNIST's format, of numbers of any type and shape."""
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}i", *shape) + data


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train-images-idx3-ubyte", b""),
        ("train-images-idx3-ubyte", b"another format, which nobody can read as images"),
        ("train-images-idx3-ubyte", idx(8, (10**9, 28, 28), b"")),
        ("train-images-idx3-ubyte", idx(8, (100, 28, 28), bytes(100 * 784))),
        ("train-images-idx3-ubyte", idx(8, (5_040, 2, 2), bytes(5_040 * 4))),
        ("train-images-idx3-ubyte", idx(13, (5_040, 28, 28), bytes(5_040 * 784 * 4))),
        ("train-images-idx3-ubyte", idx(8, (5_040, 28, 28, 1), bytes(5_040 * 784))),
        ("train-labels-idx1-ubyte", idx(8, (5_039,), bytes(5_039))),
        ("train-labels-idx1-ubyte", idx(8, (5_041,), bytes(5_041))),
        ("train-labels-idx1-ubyte", idx(8, (5_040,), b"M" * 5_040)),
        ("t10k-images-idx3-ubyte", idx(8, (0, 28, 28), b"")),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_mnist_that_is_not_mnist_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / name).write_bytes(content)
    with pytest.raises(SourceError, match="cannot load MNIST"):
        load_splits(tmp_path, download=False, seed=0, preprocess="exact")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("nowhere", "there is no folder nowhere; name the folder .*, or add --download"),
        ("s3://bucket/digits", "is an address, .*; fetch it first"),
        ("digits*", "is a pattern that matches no file"),
    ],
)
def test_folder_that_is_not_there_says_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=said):
        load_splits(Path(data), download=False, seed=0)
