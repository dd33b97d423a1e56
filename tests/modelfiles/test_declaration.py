import math

import pytest

from batchdigit import Job, UsageError
from batchdigit.modelfiles.normalisation import check_normalisation


@pytest.mark.parametrize(
    ("mean", "std"), [(None, None), (0, 1), (0.1307, 0.3081), (0, 1 / 255), (1, -1), (-3.5, 1e-5)]
)
def test_pixels_can_be_scaled_by_these(mean: float | None, std: float | None) -> None:
    check_normalisation(mean, std)
    Job(["x"], mean=mean, std=std)


@pytest.mark.parametrize(
    ("mean", "std", "named"),
    [
        (0.5, None, "--mean and --std"),
        (None, 0.5, "--mean and --std"),
        (math.nan, 1, "--mean"),
        (math.inf, 1, "--mean"),
        (1e6, 1, "--mean"),
        (0.5, 0, "--std"),
        (0.5, 1e-7, "--std"),
        (0.5, math.nan, "--std"),
        (0.5, math.inf, "--std"),
        (0.5, -1e9, "--std"),
    ],
)
def test_pixels_cannot_be_scaled_by_these(
    mean: float | None, std: float | None, named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        Job(["x"], mean=mean, std=std)
    assert named in caught.value.problem
    assert caught.value.remedy
