from collections import Counter
from dataclasses import replace

import pytest

from batchdigit.bench.measurement import Point, Setting
from batchdigit.bench.measuring import rounds
from batchdigit.bench.measuring.alone import Starts
from batchdigit.bench.measuring.images import evenly
from batchdigit.bench.measuring.rounds import in_turns, sample_in_rounds
from tests.support.engines import BROKEN, DEAD, FakeEngine, HandClock, found_with
from tests.support.measurements import GPU, ONNX, TORCH, point

FAST, SLOW = replace(TORCH, batch_size=64), replace(TORCH, batch_size=1)


class Bench:
    """Rounds over fake engines, with ``images`` images in each sample."""

    def __init__(self, *settings: Setting, images: int = 1000, budget: float = 60.0) -> None:
        self.found = found_with(*settings)
        self.clock = HandClock(budget)
        self.said: list[str] = []
        self.rates: dict[Setting, float] = {}
        self.engines = {
            name: FakeEngine(self.clock, lambda one: self.rates.get(one, 1000.0))
            for name in self.found.engines
        }
        self.images = {name: evenly(self.found.files, images) for name in self.engines}

    def run(self, *problems: Point) -> dict[Setting, Point]:
        """The points after the rounds; those in ``problems`` had a problem before."""
        points = {setting: point(setting, ()) for setting in self.found.settings}
        points |= {one.setting: one for one in problems}
        sampled, _ = sample_in_rounds(
            self.found, self.engines, self.images, points.values(), self.clock, self.said.append
        )
        return {one.setting: one for one in sampled}

    def lengths(self, name: str) -> list[int]:
        return [count for _, count in self.engines[name].sampled]


@pytest.fixture(autouse=True)
def starts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The engines whose starts were to be timed, round by round."""
    rounds_of_starts: list[list[str]] = []

    def time_starts(_found: object, names: object, starts: Starts, *_others: object) -> Starts:
        rounds_of_starts.append(list(names))  # type: ignore[call-overload]
        return starts

    monkeypatch.setattr(rounds, "time_starts", time_starts)
    return rounds_of_starts


def test_settings_are_sampled_while_there_is_time() -> None:
    bench = Bench(TORCH, ONNX)  # a second for each sample, and 60 * 0.78 seconds for all
    points = bench.run()
    assert [len(one.samples) for one in points.values()] == [23, 23]
    assert bench.clock.now < 0.78 * 60 + 1
    assert bench.said == []


def test_each_setting_is_warmed_up_by_a_few_images_and_once() -> None:
    bench = Bench(TORCH)
    points = bench.run()
    assert bench.lengths(TORCH.engine)[:3] == [10, 1000, 1000]
    assert len(points[TORCH].samples) == len(bench.lengths(TORCH.engine)) - 1


def test_gpu_sees_a_whole_batch_first() -> None:
    setting = replace(GPU, batch_size=100)
    bench = Bench(setting)
    bench.run()
    assert bench.lengths(GPU.engine)[:3] == [100, 10, 1000]


def test_slow_settings_drop_out_after_two_rounds() -> None:
    bench = Bench(FAST, SLOW)
    bench.rates[SLOW] = 500.0
    points = bench.run()
    assert len(points[SLOW].samples) == 2
    assert len(points[FAST].samples) > 30


def test_setting_that_is_nearly_as_fast_goes_on() -> None:
    bench = Bench(FAST, SLOW)
    bench.rates[SLOW] = 850.0
    points = bench.run()
    assert abs(len(points[SLOW].samples) - len(points[FAST].samples)) <= 1


def test_each_engine_has_one_sample_however_late_it_is() -> None:
    other = replace(ONNX, workers=2)
    bench = Bench(TORCH, ONNX, other, budget=1.0)
    points = bench.run()
    assert [len(one.samples) for one in points.values()] == [1, 1, 0]
    assert points[other].problem == "there was no time; give more --seconds"


def test_sample_that_would_take_too_long_is_not_begun() -> None:
    bench = Bench(TORCH, budget=10.0)
    bench.rates[TORCH] = 300.0  # 3.3 seconds each, and 7.8 for all
    assert len(bench.run()[TORCH].samples) == 2


def test_batches_of_which_four_take_too_long_are_left_out() -> None:
    large = replace(TORCH, batch_size=251)
    points = Bench(FAST, large).run()
    assert points[large].problem == "four such batches take too long; try smaller ones"
    assert points[FAST].samples


def test_setting_that_fails_is_not_tried_again_and_the_others_are() -> None:
    bench = Bench(FAST, SLOW)
    bench.engines[TORCH.engine].errors[SLOW] = BROKEN
    points = bench.run()
    assert points[SLOW].problem == str(BROKEN)
    assert len(points[FAST].samples) > 30
    assert bench.said == [f"{SLOW.label}: {BROKEN}"]


def test_engine_that_dies_takes_its_settings_along_and_no_others() -> None:
    bench = Bench(FAST, SLOW, ONNX)
    bench.engines[TORCH.engine].errors[SLOW] = DEAD
    points = bench.run()
    assert points[SLOW].problem == str(DEAD)
    # What it showed before it died still counts.
    assert (len(points[FAST].samples), points[FAST].problem) == (1, None)
    assert len(points[ONNX].samples) > 30
    assert bench.said == [f"{TORCH.engine}: {DEAD}"]


def test_setting_that_had_a_problem_before_is_left_alone(starts: list[list[str]]) -> None:
    bench = Bench(TORCH, ONNX)
    failed = point(TORCH, (), problem="no memory")
    assert bench.run(failed)[TORCH] == failed
    assert bench.engines[TORCH.engine].sampled == []
    assert {tuple(names) for names in starts} == {(ONNX.engine,)}


def test_rounds_end_where_nothing_works() -> None:
    bench = Bench(TORCH)
    bench.engines[TORCH.engine].errors[TORCH] = BROKEN
    assert bench.run()[TORCH].problem == str(BROKEN)
    assert len(bench.engines[TORCH.engine].sampled) == 1


def test_what_the_start_used_is_taken_off() -> None:
    (sample, *_) = Bench(TORCH).run()[TORCH].samples
    # A run of 1,000 images uses 1.2 seconds, and one of 10 images 0.012.
    assert sample.cpu_seconds == pytest.approx((1.2 - 0.012) * 1000 / 990)


def test_turns_go_from_engine_to_engine_and_each_round_begins_with_another_setting() -> None:
    settings = [replace(engine, workers=number) for engine in (TORCH, ONNX) for number in (0, 1)]
    order = in_turns(settings, 0)
    assert [one.backend for one in order] == ["torch", "onnxruntime"] * 2
    assert in_turns(settings, 1) == order[1:] + order[:1]
    assert in_turns(settings, 4) == order
    assert Counter(in_turns([*settings, GPU], 3)) == Counter([*settings, GPU])
    assert in_turns([], 3) == []
