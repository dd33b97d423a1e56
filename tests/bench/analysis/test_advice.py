import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchdigit.bench.analysis.advice import Command, best_points, done_first, leading_points
from batchdigit.bench.measurement import Setting, Start
from tests.support.measurements import GPU, ONNX, TORCH, point, sample

COMMANDS = st.builds(Command, st.floats(0.01, 10), st.floats(1, 1e6))


@given(COMMANDS, st.lists(COMMANDS, min_size=1, max_size=4), st.integers(1, 10**8))
def test_command_is_done_first_exactly_where_it_says(
    command: Command, others: list[Command], images: int
) -> None:
    low, high = done_first(command, others) or (math.inf, -math.inf)
    mine = command.seconds(images)
    theirs = min(other.seconds(images) for other in others)
    if low * 1.001 < images < high / 1.001:
        assert mine <= theirs * (1 + 1e-9)
    elif not low / 1.001 < images < high * 1.001:
        assert mine >= theirs * (1 - 1e-9)


def test_quick_start_wins_up_to_where_the_faster_one_has_caught_up() -> None:
    quick, fast = Command(0.5, 1000), Command(1.5, 2000)
    assert done_first(quick, [fast]) == (0, 2000)
    assert done_first(fast, [quick]) == (2000, math.inf)
    assert done_first(Command(2.0, 500), [quick, fast]) is None
    assert done_first(Command(0.5, 3000), [quick, fast]) == (0, math.inf)


@pytest.mark.parametrize(("images", "here"), [(10, ONNX), (8_900, ONNX), (9_100, GPU)])
def test_best_is_what_is_done_first_with_the_images_that_there_are(
    images: int, here: Setting
) -> None:
    points = [point(TORCH, (1000.0,)), point(ONNX, (2000.0,)), point(GPU, (9000.0,))]
    seconds = {TORCH: 1.5, ONNX: 0.5, GPU: 4.0}
    starts = [Start(setting.engine, (second,)) for setting, second in seconds.items()]
    best = best_points(points, starts, images)
    assert best is not None
    assert (best.here.setting, best.fastest.setting) == (here, GPU)


def test_each_engine_is_led_by_its_fastest_point() -> None:
    slow, fast = point(TORCH, (1.0,)), point(replace(TORCH, workers=2), (2.0,))
    untold = point(GPU, (9.0,), parity=None)
    assert leading_points([slow, fast, point(ONNX, (3.0,)), untold]) == [point(ONNX, (3.0,)), fast]


def test_other_labels_are_never_advised() -> None:
    wrong = point(GPU, (9000.0,), flips=2)
    best = best_points([point(TORCH), wrong], [], 1000)
    assert best is not None
    assert best.fastest.setting == TORCH
    assert best_points([wrong], [], 1000) is None
    assert best_points([point(GPU, (9000.0,), parity=None)], [], 1000) is None


def test_simpler_of_two_equally_fast_settings_is_advised() -> None:
    tuned = replace(TORCH, batch_size=64, workers=2)
    points = [point(TORCH, (980.0,)), point(tuned, (1000.0,))]
    best = best_points(points, [], 1000)
    assert best is not None
    assert best.fastest.setting == TORCH
    best = best_points([point(TORCH, (960.0,)), points[1]], [], 1000)
    assert best is not None
    assert best.fastest.setting == tuned


def test_full_precision_is_advised_before_less() -> None:
    less = replace(TORCH, precision="bf16")
    best = best_points(
        [point(less, (1000.0,)), point(replace(TORCH, workers=2), (980.0,))], [], 1000
    )
    assert best is not None
    assert best.fastest.setting.precision == "fp32"


def test_reading_in_the_main_process_is_advised_only_where_nothing_else_is() -> None:
    alone = point(replace(TORCH, workers=0), samples=(sample(2000.0, workers=0),))
    best = best_points([point(TORCH, (1000.0,)), alone], [], 1000)
    assert best is not None
    assert best.fastest.setting == TORCH
    best = best_points([alone], [], 1000)
    assert best is not None
    assert best.fastest == alone
