from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from batchdigit.training.digits import Digits, Splits
from tests.support.samples import SAMPLES


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample digits as a labelled folder."""
    folder = tmp_path_factory.mktemp("labelled")
    for path in SAMPLES.glob("*.png"):
        (folder / path.stem[-1]).mkdir(exist_ok=True)
        (folder / path.stem[-1] / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def hundred() -> Digits:
    """The sample digits with their labels."""
    paths = sorted(SAMPLES.glob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])[:, None]
    return Digits(torch.from_numpy(images), torch.tensor([int(path.stem[-1]) for path in paths]))


@pytest.fixture(scope="session")
def splits(hundred: Digits) -> Splits:
    """A few of them to train on, to choose weights by, and to test on."""
    return Splits(hundred[:32], hundred[32:48], hundred[48:64], "a few digits")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run side by side: threads of several PyTorches would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
