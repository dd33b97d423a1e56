"""Random damage to a model file: it loads exactly the same weights, or it is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from batchdigit.job import PACKAGED_WEIGHTS
from tests.support.samples import REPOSITORY

MAX_SECONDS = 10
MAX_BYTES = 2 << 30


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packaged weights in half precision, which are half the bytes to read."""
    folder = tmp_path_factory.mktemp("half")
    weights = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    state = {name: tensor.half() for name, tensor in weights.items()}
    torch.save(state, folder / "CNN.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "CNN.safetensors")
    return folder


def mutate(path: Path, count: int, *exact: str) -> list[dict[str, float]]:
    """The outcomes of ``count`` mutations, half of them in each of two processes."""
    command = [sys.executable, "-m", "tests.support.mutate", str(path)]
    children = [
        subprocess.Popen(
            [*command, str(seed), str(count // 2), *exact],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in (1, 2)
    ]  # fmt: skip
    results = []
    for child in children:
        output, errors = child.communicate()
        assert child.returncode == 0, errors
        results.append(json.loads(output))
    for result in results:
        assert result["slowest_seconds"] < MAX_SECONDS
        assert result["peak_bytes"] < MAX_BYTES
    return results


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations_load_the_same_or_are_refused(half: Path, count: int) -> None:
    results = mutate(half / "CNN.pt", count)
    equal, refused = (
        sum(result.get(kind, 0) for result in results) for kind in ("equal", "refused")
    )
    assert equal + refused == count


@pytest.mark.parametrize("count", [50, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["old.pt", "CNN.safetensors"])
def test_mutations_without_checksums_crash_nothing(half: Path, name: str, count: int) -> None:
    """Neither format can detect a flipped bit in a weight."""
    for result in mutate(half / name, count, "0"):
        assert result["refused"] > count / 10
