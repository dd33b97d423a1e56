from dataclasses import replace
from pathlib import Path

import pytest

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Setting, Start
from batchdigit.bench.measuring import alone
from batchdigit.bench.measuring.alone import (
    IMAGES_OF_A_START,
    MAX_CHECKS,
    MAX_TIMES_ALONE,
    Starts,
    check_command,
    compare_outcomes,
    measure_alone,
    time_starts,
)
from batchdigit.bench.measuring.probes import network_rate, reading_rate, warm_up
from batchdigit.errors import BatchdigitError, SourceError
from tests.support.engines import BROKEN, FakeEngine, HandClock, found_with
from tests.support.measurements import ONNX, TORCH, point

FOUND = found_with(TORCH, ONNX)


class Bench:
    """Two engines, a clock and the messages."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.said: list[str] = []
        self.torch, self.onnx = (FakeEngine(self.clock, lambda _one: 1000.0) for _ in range(2))
        self.engines = {TORCH.engine: self.torch, ONNX.engine: self.onnx}


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- results to compare


def test_every_engine_predicts_the_same_images(bench: Bench) -> None:
    outcomes, problems = compare_outcomes(FOUND, bench.engines, bench.clock, bench.said.append)
    assert list(outcomes) == [TORCH.engine, ONNX.engine]
    assert {len(one.labels) for one in outcomes.values()} == {1000}
    assert problems == {}
    assert bench.said == []


def test_engine_without_results_does_not_stop_the_others(bench: Bench) -> None:
    bench.torch.errors[warm_up] = BROKEN
    outcomes, problems = compare_outcomes(FOUND, bench.engines, bench.clock, bench.said.append)
    assert list(outcomes) == [ONNX.engine]
    assert problems == {TORCH.engine: str(BROKEN)}
    assert bench.said == [f"{TORCH.engine}: {BROKEN}"]


def test_first_error_is_raised_where_no_engine_works(bench: Bench) -> None:
    first = BatchdigitError("the first", "mend it")
    bench.torch.errors[warm_up], bench.onnx.errors[warm_up] = first, BROKEN
    with pytest.raises(BatchdigitError, match="the first"):
        compare_outcomes(FOUND, bench.engines, bench.clock, bench.said.append)


def test_nothing_but_error_rows_is_an_error(bench: Bench) -> None:
    bench.torch.labels = bench.onnx.labels = [-1]
    with pytest.raises(SourceError, match="every image that was tried is an error row"):
        compare_outcomes(FOUND, bench.engines, bench.clock, bench.said.append)
    bench.torch.labels = [-1, 3]
    compare_outcomes(FOUND, bench.engines, bench.clock, bench.said.append)


# --- whole commands


@pytest.fixture
def commands(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[Setting, float]:
    """The seconds that each setting's command takes; if negative, the command raises."""
    seconds = {TORCH: 2.0, ONNX: 0.5}

    def seconds_of_command(_job: BenchJob, setting: Setting, folder: Path) -> float:
        assert list(folder.iterdir())
        if seconds[setting] < 0:
            raise BROKEN
        bench.clock.now += seconds[setting]
        return seconds[setting]

    monkeypatch.setattr(alone, "seconds_of_command", seconds_of_command)
    monkeypatch.setattr(alone, "IMAGES_TO_CHECK", 50)  # linking more files would take long
    return seconds


@pytest.mark.usefixtures("commands")
def test_each_start_is_timed_once_more_each_time(bench: Bench) -> None:
    starts = Starts()
    for _ in range(2):
        starts = time_starts(FOUND, bench.engines, starts, bench.clock, bench.said.append)
    assert starts.found() == (Start(TORCH.engine, (2.0, 2.0)), Start(ONNX.engine, (0.5, 0.5)))


@pytest.mark.usefixtures("commands")
def test_starts_are_timed_once_at_least_and_then_while_their_share_lasts(bench: Bench) -> None:
    bench.clock.budget = 10.0  # 1.5 of them for the starts
    starts = Starts()
    for _ in range(3):
        starts = time_starts(FOUND, bench.engines, starts, bench.clock, bench.said.append)
    assert starts.found() == (Start(TORCH.engine, (2.0,)), Start(ONNX.engine, (0.5,)))


def test_start_that_fails_is_not_tried_again(bench: Bench, commands: dict[Setting, float]) -> None:
    commands[TORCH] = -1
    starts = Starts()
    for _ in range(2):
        starts = time_starts(FOUND, bench.engines, starts, bench.clock, bench.said.append)
    assert starts.found() == (Start(ONNX.engine, (0.5, 0.5)),)
    assert bench.said == [f"the start of {TORCH.engine}: {BROKEN}"]


@pytest.mark.usefixtures("commands")
def test_advised_command_is_run_as_often_as_there_is_time(bench: Bench) -> None:
    for left, times in ((100.0, MAX_CHECKS), (5.0, 2), (1.0, 1)):
        bench.clock.now = bench.clock.budget - left
        check = check_command(FOUND, point(TORCH, (1e9,)), bench.clock, bench.said.append)
        assert check is not None
        assert check.seconds == (2.0,) * times
        assert check.images == 50
        assert check.command.startswith("batchdigit run ")
    slow = check_command(FOUND, point(TORCH, (0.1,)), bench.clock, bench.said.append)
    assert slow is not None
    assert slow.images == IMAGES_OF_A_START


def test_advised_command_that_fails_is_said(bench: Bench, commands: dict[Setting, float]) -> None:
    commands[TORCH] = -1
    assert check_command(FOUND, point(TORCH), bench.clock, bench.said.append) is None
    (line,) = bench.said
    assert line.endswith(f": {BROKEN}")


# --- network and readers


def test_best_point_of_each_engine_has_the_rates_of_its_parts(bench: Bench) -> None:
    slow = point(replace(TORCH, workers=2), (10.0,))
    points = measure_alone(
        FOUND, bench.engines, [point(TORCH), slow, point(ONNX)], bench.clock, bench.said.append
    )
    assert [one.setting for one in points] == [TORCH, slow.setting, ONNX]
    assert points[0].network_rates == (1000.0,) * MAX_TIMES_ALONE
    assert points[2].reading_rates == (2000.0,) * MAX_TIMES_ALONE
    assert points[1] == slow


def test_parts_are_measured_once_however_late_it_is(bench: Bench) -> None:
    bench.clock.now = bench.clock.budget
    points = measure_alone(
        FOUND, bench.engines, [point(TORCH), point(ONNX)], bench.clock, bench.said.append
    )
    assert [len(one.network_rates) for one in points] == [1, 1]


@pytest.mark.parametrize("probe", [network_rate, reading_rate])
def test_failure_of_a_part_costs_no_samples(bench: Bench, probe: object) -> None:
    bench.torch.errors[probe] = BROKEN
    points = measure_alone(
        FOUND, bench.engines, [point(TORCH), point(ONNX)], bench.clock, bench.said.append
    )
    assert points[0] == point(TORCH)
    assert len(points[1].network_rates) == MAX_TIMES_ALONE
    assert bench.said == [f"{TORCH.label}, alone: {BROKEN}"]


def test_readers_of_too_few_batches_have_no_rate(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {network_rate: 9.0, reading_rate: None}
    monkeypatch.setattr(bench.torch, "ask", lambda probe, *_others: rates[probe])
    (only,) = measure_alone(FOUND, bench.engines, [point(TORCH)], bench.clock, bench.said.append)
    assert only.network_rates == (9.0,) * MAX_TIMES_ALONE
    assert only.reading_rates == ()
