"""What a training run may be asked to do."""

from pathlib import Path

import pytest

from batchdigit import UsageError
from batchdigit.training.job import TrainJob


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "--epochs 0 is less than 1"),
        ({"seed": -1}, "--seed -1"),
        ({"seed": 2**64}, "--seed 18446744073709551616"),
        ({"device": "x"}, "--device 'x' is unknown"),
        ({"learning_rate": 0}, "--learning-rate 0 is not above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan is not above 0"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"variants": -1}, "--variants -1 is not between 0 and 100"),
        ({"variants": 101}, "--variants 101 is not between 0 and 100"),
        ({"preprocess": "none"}, "--preprocess 'none' is unknown"),
        ({"preprocess": "exact"}, "variants are fitted"),
    ],
    ids=str,
)
def test_senseless_option_is_an_error(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainJob(Path("data"), Path("out"), **options)  # type: ignore[arg-type]
    assert said in caught.value.problem
    assert caught.value.remedy


def test_limits_themselves_are_allowed() -> None:
    for variants in (0, 100):
        TrainJob(Path("data"), Path("out"), epochs=1, variants=variants, seed=2**63 - 1)
    TrainJob(Path("data"), Path("out"), variants=0, preprocess="exact")
