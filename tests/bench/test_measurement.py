import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.bench.measurement import Measurement, percentile
from tests.support.measurements import GPU, ONNX, TORCH, measurement, point, sample

WHOLE = measurement(
    point(TORCH, (900.0, 1000.0, 1100.0), network_rates=(1200.0,), reading_rates=(9000.0,)),
    point(replace(ONNX, batch_size=64, workers=2), (2000.0,)),
    point(GPU, (), parity=None, problem="no memory"),
)


def test_measurement_comes_back_from_json() -> None:
    assert Measurement.from_json(json.loads(json.dumps(WHOLE.as_json()))) == WHOLE


def test_json_has_the_medians() -> None:
    points = WHOLE.as_json()["points"]
    assert [one["rate"] for one in points] == pytest.approx([1000.0, 2000.0, 0.0])
    assert [one["rate"] for one in points[0]["samples"]] == [
        pytest.approx(rate) for rate in (900, 1000, 1100)
    ]


def test_other_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 99"):
        Measurement.from_json(WHOLE.as_json() | {"format": 99})


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


def test_what_a_run_that_is_hardly_shorter_takes_says_nothing() -> None:
    few = sample(images=11, cpu_seconds=3.0, joules=50.0)
    net = few.without_start(sample(images=10, cpu_seconds=1.0, joules=10.0))
    assert (net.cpu_seconds, net.joules) == (None, None)


def test_options_leave_out_what_is_auto() -> None:
    assert TORCH.options == ["--backend", "torch", "--device", "cpu", "--precision", "fp32"]
    assert replace(TORCH, batch_size=64, workers=0).options[6:] == [
        *("--batch-size", "64", "--workers", "0")
    ]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentile_is_numpys(values: list[float], share: float) -> None:
    import numpy as np

    assert percentile(values, share) == pytest.approx(float(np.percentile(values, 100 * share)))
