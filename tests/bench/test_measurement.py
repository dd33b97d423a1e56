import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.bench.measurement import Point
from batchdigit.bench.store import measurement_from
from tests.support.measurements import (
    GPU,
    ONNX,
    STEADY,
    TORCH,
    failed_point,
    measurement,
    point,
    sample,
)
from tests.support.samples import SAMPLES
from tests.test_public import imported_by

WHOLE = measurement(
    point(TORCH, (900.0, 1000.0, 1100.0), network_rates=(1200.0,), reading_rates=(9000.0,)),
    point(replace(ONNX, batch_size=64, workers=2), (2000.0,)),
    failed_point(GPU, "no memory"),
)


def test_measurement_comes_back_from_json() -> None:
    assert measurement_from(json.loads(json.dumps(WHOLE.as_json()))) == WHOLE


def test_json_has_the_medians() -> None:
    points = WHOLE.as_json()["points"]
    assert [one["rate"] for one in points] == pytest.approx([1000.0, 2000.0, 0.0])
    assert [one["rate"] for one in points[0]["samples"]] == [
        pytest.approx(rate) for rate in (900, 1000, 1100)
    ]


def test_rate_is_of_the_time_after_the_start() -> None:
    one = sample(500.0, images=1000)
    assert one.seconds["total"] == pytest.approx(2.12)
    assert one.span == pytest.approx(2.0)
    assert one.rate == pytest.approx(500.0)


def test_what_a_short_run_takes_to_start_is_taken_off() -> None:
    long = sample(images=1010, cpu_seconds=3.0, joules=50.0)
    net = long.without_start(sample(images=10, cpu_seconds=1.0, joules=10.0))
    # 1,000 images take 2 seconds and 40 joules
    assert net.cpu_seconds / net.images == pytest.approx(2.0 / 1000)
    assert net.joules == pytest.approx(40.0 / 1000 * 1010)
    assert long.without_start(sample(images=10, cpu_seconds=1.0)).joules is None


def test_run_that_is_hardly_shorter_says_nothing_about_the_start() -> None:
    few = sample(images=11, cpu_seconds=3.0, joules=50.0)
    net = few.without_start(sample(images=10, cpu_seconds=1.0, joules=10.0))
    assert (net.cpu_seconds, net.joules) == (None, None)


def test_options_leave_out_what_is_auto() -> None:
    assert TORCH.options == ["--backend", "torch", "--device", "cpu", "--precision", "fp32"]
    assert replace(TORCH, batch_size=64, workers=0).options[6:] == [
        *("--batch-size", "64", "--workers", "0")
    ]


@given(st.lists(st.floats(1, 1e6), min_size=1))
def test_spread_leaves_a_twentieth_out_at_each_end(rates: list[float]) -> None:
    one = point(TORCH, rates)
    low, high = one.spread
    assert min(one.rates) <= low <= one.rate * (1 + 1e-12)
    assert one.rate * (1 - 1e-12) <= high <= max(one.rates)


def test_spread_is_between_two_samples_by_proportion() -> None:
    assert point(TORCH, (900.0, 1000.0, 1100.0)).spread == pytest.approx((910.0, 1090.0))


def test_point_without_samples_has_no_speed() -> None:
    nothing = failed_point(TORCH, "broken")
    assert (nothing.rate, nothing.best_rate, nothing.is_shown) == (0.0, 0.0, False)


@pytest.mark.parametrize(
    "one", [point(TORCH, parity=None), point(TORCH, problem="broken"), point(TORCH, ())]
)
def test_point_is_shown_only_with_samples_and_parity_and_without_a_problem(one: Point) -> None:
    assert not one.is_shown
    assert point(TORCH).is_shown


@pytest.mark.parametrize("seconds", [{}, {"total": 0.0}, {"total": 1.0, "import": 1.0}])
def test_sample_that_took_no_time_is_no_sample(seconds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="took no time"):
        sample(seconds=seconds)


def test_setting_is_in_a_measurement_only_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        measurement(point(TORCH, STEADY), point(TORCH))


RUN = f"batchdigit.run(batchdigit.Job((Path({str(SAMPLES)!r}),), backend='onnxruntime'))"


@pytest.mark.parametrize(
    "code",
    [
        "import batchdigit.cli.app",
        "import batchdigit; from pathlib import Path; " + RUN,
    ],
)
def test_help_and_runs_import_nothing_that_only_measurements_need(code: str) -> None:
    assert imported_by(code, ("msgspec", "jinja2", "matplotlib")) == set()
