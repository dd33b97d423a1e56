"""What the tests share: the sample digits, odd images, and the program as a user calls it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchdigit.backends.onnx_backend import OnnxPredictor
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.job import PACKAGED_WEIGHTS
from tests.modelfiles import save_the_tutorials_way
from tests.oracle import SeedRow, seed_loop

REPOSITORY = Path(__file__).parent.parent
SAMPLES = REPOSITORY / "sample_images"

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def sample_paths() -> list[Path]:
    """The sample digits in the order of a report: by the bytes of their names."""
    return sorted(SAMPLES.glob("*.png"), key=lambda path: os.fsencode(path.name))


@pytest.fixture(scope="session")
def seed_rows(sample_paths: list[Path]) -> list[SeedRow]:
    """What the plain loop says of the sample digits."""
    return seed_loop(sample_paths, PACKAGED_WEIGHTS)


def as_they_are(count: int) -> dict[str, np.ndarray]:
    """What a batch says of ``count`` images that nobody fitted."""
    return {
        "treatments": np.zeros(count, np.uint8),
        "ink": np.full(count, np.nan, np.float32),
    }


@pytest.fixture
def digits(tmp_path: Path, sample_paths: list[Path]) -> Path:
    """A folder with ten digits of its own, ``00.png`` to ``09.png``, an hour old."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for number, path in enumerate(sample_paths[:10]):
        (folder / f"{number:02}.png").write_bytes(path.read_bytes())
        age(folder / f"{number:02}.png")
    return folder


def age(path: Path, hours: float = 1.0) -> None:
    """Make a file older than it is: what was just written counts as unsettled."""
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run ``batchdigit ARGUMENTS`` as its own process, in an empty folder."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "batchdigit", *map(str, arguments)]
        # With buffers, as users have it, whatever the machine that runs the tests prefers.
        environment = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
        settings = {"capture_output": True, "text": True, "timeout": 120, "cwd": tmp_path}
        settings["env"] = environment
        return subprocess.run(command, check=False, **(settings | options))  # type: ignore[call-overload]

    return run


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that every user can reach and write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def lose_the_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever predicts leaves its last batch out."""
    for predictor in (Predictor, OnnxPredictor):
        complete = predictor.predict
        monkeypatch.setattr(
            predictor,
            "predict",
            lambda self, batches, complete=complete: list(complete(self, batches))[:-1],
        )


def save_grey(path: Path, seed: int = 0, size: tuple[int, int] = (28, 28)) -> np.ndarray:
    """Write random grey pixels as an image and return them."""
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture(scope="session")
def tutorial_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packaged weights, saved in all of the tutorial's ways."""
    folder = tmp_path_factory.mktemp("tutorial")
    save_the_tutorials_way(folder, PACKAGED_WEIGHTS)
    return folder
