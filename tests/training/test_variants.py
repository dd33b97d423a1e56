"""Variants are other pictures of the same digit, as varied as they are said to be."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from batchdigit import Job, run
from batchdigit.images.ink import ink_is_dark
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.training.variants import variant
from tests.support.samples import SAMPLES

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pictures() -> list[tuple[int, Pixels]]:
    """Four variants of each sample digit, with its label."""
    random = np.random.default_rng(2)
    digits = [(int(path.stem[-1]), np.asarray(Image.open(path))) for path in SAMPLES.glob("*.png")]
    return [(label, variant(digit, label, random)) for label, digit in digits for _ in range(4)]


def test_the_same_seed_gives_the_same_variant() -> None:
    digit = np.asarray(Image.open(SAMPLES / "0-label-0.png"))
    one, same, other = (variant(digit, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_variant_shows_the_same_digit(pictures: list[tuple[int, Pixels]], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, (label, picture) in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}-{label}.png")
    run(Job((tmp_path / "in",), tmp_path / "out.csv", model=PACKAGED_WEIGHTS))
    rows = [row.split(",") for row in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert len(rows) == 400
    assert np.mean([name[-5] == prediction for name, prediction, *_ in rows]) > 0.95


def test_variants_are_varied(pictures: list[tuple[int, Pixels]]) -> None:
    sides = [max(picture.shape) for _, picture in pictures]
    assert min(sides) < 20
    assert max(sides) > 256
    assert sides.count(28) > 20
    papers = [np.median(picture) for _, picture in pictures]
    assert len(set(papers)) > 100
    dark = np.mean([ink_is_dark(picture) for _, picture in pictures])
    assert 0.6 < dark < 0.85  # three quarters are
