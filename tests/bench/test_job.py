import pytest

from batchdigit.bench.job import BenchJob
from batchdigit.errors import UsageError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 1}, "--seconds 1"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"backends": ("auto",)}, "--backends 'auto'"),
        ({"devices": ("auto",)}, "--devices auto"),
        ({"devices": ("gpu",)}, "--devices 'gpu' is unknown; choose from cpu, cuda"),
        ({"precisions": ("auto",)}, "--precisions 'auto'"),
        ({"batch_sizes": (0,)}, "--batch-sizes 0"),
        ({"workers": (-1,)}, "--workers -1"),
        ({"workers": (3000,)}, "--workers 3000"),
        ({"preprocess": "much"}, "--preprocess 'much'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BenchJob(**options)  # type: ignore[arg-type]


def test_limits_are_allowed() -> None:
    job = BenchJob(seconds=5, batch_sizes=(1, None), workers=(0, 256), devices=("cpu", "cuda:1"))
    assert job.workers == (0, 256)
