"""A comparison of two measurements reports real changes and ignores noise."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from batchdigit.bench.analysis.compare import compare
from batchdigit.bench.measurement import Measurement
from batchdigit.bench.views.comparison_lines import comparison_lines
from batchdigit.errors import UsageError
from tests.support.measurements import (
    ENGINES,
    STEADY,
    TORCH,
    measurement,
    of_rates,
    point,
    scaled,
    sweep,
)


def test_the_same_file_twice_says_that_nothing_changed() -> None:
    old = sweep(3, (16, 64, 256), (0, 2))
    comparison = compare(old, old)
    assert comparison.verdict == "same"
    assert not comparison.failed
    assert comparison.warnings == ()
    assert list(comparison_lines(comparison))[-1] == "verdict: no difference beyond the noise"


def test_slower_setting_is_named_with_its_rates() -> None:
    old = of_rates([1000 * rate for rate in STEADY], [2000 * rate for rate in STEADY])
    new = of_rates([1003 * rate for rate in STEADY], [1500 * rate for rate in STEADY])
    comparison = compare(old, new)
    same, slower = comparison.points
    assert (same.verdict, slower.verdict) == ("same", "slower")
    assert (slower.old_rate, slower.new_rate) == pytest.approx((2005, 1503.75))
    assert slower.change == pytest.approx(-0.25)
    assert comparison.failed
    text = "\n".join(comparison_lines(comparison))
    assert "batch 32, workers 2: 2,005, now 1,504: -25.0%, slower" in text
    assert text.splitlines()[-1].startswith("verdict: slower by more than 10%: onnxruntime on cpu")


def test_faster_is_no_failure() -> None:
    old = sweep(2, (16, 64, 256), (0, 2), samples=6)
    comparison = compare(old, scaled(old, 1.3))
    assert comparison.verdict == "faster"
    assert not comparison.failed
    assert comparison.overall is not None
    assert comparison.overall.change == pytest.approx(0.3, abs=0.01)


def test_fail_over_is_what_may_be_lost() -> None:
    old = of_rates([1000 * rate for rate in STEADY], [2000 * rate for rate in STEADY])
    new = scaled(old, 0.8)
    assert compare(old, new, 0.15).failed
    assert not compare(old, new, 0.25).failed
    assert compare(old, new, 0.25).verdict == "slower"


def test_too_few_samples_are_said_to_be_too_few() -> None:
    comparison = compare(of_rates([1000.0, 1010, 990]), of_rates([500.0, 510, 490]))
    assert comparison.verdict == "unknown"
    assert not comparison.failed
    lines = list(comparison_lines(comparison))
    assert "1 of 1 setting has too few samples" in lines[-2]
    assert "; 5 of each, both times, would do" in lines[-2]
    assert "too few samples" in lines[-1]
    assert compare(few := of_rates([1.0, 2, 3]), few).verdict == "unknown"
    # And that many are indeed enough.
    enough = [1000.0, 1010, 990, 980, 1005]
    assert compare(of_rates(enough), of_rates([rate / 2 for rate in enough])).failed


def test_settings_with_too_few_samples_each_are_judged_together() -> None:
    old = sweep(2, (16, 64, 256), (0, 2), samples=3)
    comparison = compare(old, scaled(old, 0.75, "torch"))
    assert {change.verdict for change in comparison.points} == {"same", "unknown"}
    assert not any(change.decidable for change in comparison.points)
    assert {change.name: change.verdict for change in comparison.engines} == {
        "onnxruntime on cpu in fp32": "same",
        "torch on cpu in fp32": "slower",
    }
    assert comparison.failed


def test_samples_slowed_by_a_neighbour_are_no_finding() -> None:
    """The best samples are as good as before."""
    old = of_rates([1000.0, 990, 1010, 1005, 995, 1002, 998, 1001])
    new = of_rates([1000.0, 500, 510, 505, 700, 502, 498, 501])
    assert compare(old, new).verdict == "same"


def test_setting_that_no_longer_runs_is_a_failure() -> None:
    old = of_rates(STEADY, STEADY)
    broken = replace(old.points[0], samples=(), problem="the device is gone")
    comparison = compare(old, replace(old, points=(broken, *old.points[1:])))
    assert comparison.failed
    assert "the device is gone" in "\n".join(comparison_lines(comparison))
    comparison = compare(replace(old, points=old.points[:1]), replace(old, points=(broken,)))
    assert comparison.failed
    assert comparison.as_json()["verdict"] == "unknown"
    # One that did not run before either is no failure.
    never = replace(old, points=(broken, *old.points[1:]))
    assert not compare(never, never).failed


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(UsageError, match="no setting was measured in both"):
        compare(of_rates(STEADY), measurement(point(TORCH, STEADY)))


# --- statistics: many comparisons of measurements like those of noisy machines


def noisy(
    random: Generator, truth: NDArray[np.float64], samples: int, noise: float, busy: float
) -> NDArray[np.float64]:
    """Rates [P, samples] of points whose true rates are ``truth``, measured in rounds.

    Each sample takes 1.5 s. A neighbour stays for 5 s on average and is there for a share ``busy``
    of the time; meanwhile everything is slower by a factor of 1.1 to 2. The whole measurement is
    off by 2% (one standard deviation), and each point by 1.5%.
    """
    times = np.arange(len(truth) * samples + 1) * 1.5
    slowness = np.ones(len(times) - 1)
    for _ in range(random.poisson(busy * (times[-1] + 60) / 5)):
        begin, length = random.uniform(-60, times[-1]), random.exponential(5)
        both = np.minimum(times[1:], begin + length) - np.maximum(times[:-1], begin)
        slowness *= 1 + np.maximum(both, 0) / 1.5 * random.uniform(0.1, 1)
    drift = random.normal(0, 0.02) + random.normal(0, 0.015, (len(truth), 1))
    scatter = random.normal(0, noise, (len(truth), samples))
    return truth[:, None] * np.exp(drift + scatter) / slowness.reshape(samples, -1).T


def measured(rates_PS: NDArray[np.float64], engines: int) -> Measurement:
    each = math.ceil(len(rates_PS) / engines)
    return measurement(
        *(
            point(replace(ENGINES[place // each], batch_size=1 + place % each), rates)
            for place, rates in enumerate(rates_PS)
        )
    )


SHAPES = [  # points, engines, samples
    (1, 1, 3), (1, 1, 5), (1, 1, 20), (6, 2, 3), (6, 2, 10), (12, 3, 5), (60, 6, 3), (60, 6, 8),
]  # fmt: skip


NOISES = [
    (0.03, 0.05),
    pytest.param(0.06, 0.1, marks=pytest.mark.slow),
    pytest.param(0.1, 0.1, marks=pytest.mark.slow),
]


TRIES = 100


# A single setting with five samples is measured in 8 s, and one neighbour may spoil all of them:
# its true rate of false alarms is 3 to 5%, by a thousand tries. All other rates are below 2%.
MAX_LOUD = 8


@pytest.mark.parametrize(
    ("noise", "busy"),
    NOISES,
)
def test_two_measurements_of_the_same_build_show_no_change_in_19_of_20(
    noise: float, busy: float
) -> None:
    loud = []
    for points, engines, samples in SHAPES:
        random = np.random.default_rng([points, samples, int(noise * 100)])
        truth = random.uniform(2_000, 20_000, points)
        verdicts = []
        for _ in range(TRIES):
            old, new = (
                measured(noisy(random, truth, samples, noise, busy), engines) for _ in range(2)
            )
            verdicts.append(compare(old, new).verdict)
        loud.append(sum(verdict not in ("same", "unknown") for verdict in verdicts))
    assert sum(loud) <= TRIES * len(SHAPES) / 20
    assert max(loud) <= MAX_LOUD


@pytest.mark.parametrize(
    ("points", "engines", "samples", "noise", "busy", "share"),
    [
        (1, 1, 8, 0.03, 0.05, 0.85),
        (1, 1, 20, 0.06, 0.1, 0.7),
        (6, 2, 5, 0.03, 0.05, 0.88),
        (6, 2, 10, 0.06, 0.1, 0.82),
        (12, 3, 5, 0.06, 0.1, 0.7),
        pytest.param(60, 6, 3, 0.03, 0.05, 0.9, marks=pytest.mark.slow),
        pytest.param(60, 6, 3, 0.06, 0.1, 0.8, marks=pytest.mark.slow),
        pytest.param(60, 6, 8, 0.1, 0.1, 0.85, marks=pytest.mark.slow),
    ],
)
def test_an_engine_that_lost_a_fifth_is_found(
    points: int, engines: int, samples: int, noise: float, busy: float, share: float
) -> None:
    """``share`` is about the true share of such tries, less what a hundred of them may be off."""
    random = np.random.default_rng([points, samples])
    truth = random.uniform(2_000, 20_000, points)
    later = truth.copy()
    later[: points // engines] *= 0.8
    found = 0
    for _ in range(TRIES):
        old = measured(noisy(random, truth, samples, noise, busy), engines)
        new = measured(noisy(random, later, samples, noise, busy), engines)
        slower = {change.name for change in compare(old, new).slower}
        found += any(name.startswith(("onnxruntime", "all")) for name in slower)
    assert found >= share * TRIES


def test_extreme_measurements_are_compared() -> None:
    """They may have any rates that a file may hold, and as many samples."""
    slow, fast = of_rates([1e-8] * 8), of_rates([1e14] * 8)
    for old, new in ((slow, fast), (fast, slow)):
        assert compare(old, new).verdict in ("slower", "faster")
    many = of_rates(list(np.random.default_rng(0).uniform(900, 1000, 20_000)))
    assert compare(many, scaled(many, 0.7)).verdict == "slower"
