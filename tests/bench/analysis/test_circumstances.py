from dataclasses import replace
from typing import Any

import pytest

from batchdigit.bench.analysis.compare import compare
from tests.support.measurements import STEADY, of_rates


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": {"processor": "Other CPU", "cores": 2}}, "on another machine: processor "),
        ({"model": {"sha256": "cd" * 32}}, "with another model"),
        ({"versions": {"batchdigit": "0.2.0", "torch": "2.10.0"}}, "with other versions"),
        ({"source": {"images": 9}}, "on other images"),
        ({"method": {"images": 5}}, "in another way"),
    ],
)
def test_other_circumstances_are_said(change: dict[str, Any], said: str) -> None:
    old = of_rates(STEADY)
    (warning,) = compare(old, replace(old, **change)).warnings
    assert warning.startswith(f"measured {said}")


def test_model_under_another_name_is_the_same_model() -> None:
    old = of_rates(STEADY)
    renamed = replace(old, model=dict(old.model) | {"path": "copy.pt"})
    assert compare(old, renamed).warnings == ()


def test_other_choice_of_auto_is_said() -> None:
    old = of_rates(STEADY)
    samples = tuple(replace(one, workers=4) for one in old.points[0].samples)
    new = replace(old, points=(replace(old.points[0], samples=samples),))
    (warning,) = compare(old, new).warnings
    assert warning.endswith("the run chose workers 2, now 4")
