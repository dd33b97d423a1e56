from dataclasses import replace

from batchdigit.bench.analysis.compare import compare
from batchdigit.bench.views.comparison_lines import MAX_WARNINGS, comparison_lines
from tests.support.measurements import STEADY, of_rates, scaled


def test_lines_hold_no_commands_for_a_terminal() -> None:
    old = of_rates(STEADY)
    new = replace(old, machine={"cpu\x1b[2J": "\x1b]0;title\x07\nsecond line"}, started="\x1b[31m")
    for line in comparison_lines(compare(old, new)):
        assert line.isprintable()


def test_what_is_only_in_one_is_said() -> None:
    old, new = of_rates(STEADY, STEADY), of_rates(STEADY)
    text = "\n".join(comparison_lines(compare(old, new)))
    assert "measured only before: onnxruntime on cpu in fp32, batch 32, workers 2" in text
    text = "\n".join(comparison_lines(compare(new, old)))
    assert "measured only now: onnxruntime on cpu in fp32, batch 32, workers 2" in text


def test_only_some_warnings_are_shown_and_the_others_counted() -> None:
    old = of_rates(*[STEADY] * 12)
    changed = [
        replace(point, samples=tuple(replace(one, workers=4) for one in point.samples))
        for point in old.points
    ]
    lines = list(comparison_lines(compare(old, replace(old, points=tuple(changed)))))
    assert sum("the run chose workers 2, now 4" in line for line in lines) == MAX_WARNINGS
    assert f"note: and {12 - MAX_WARNINGS} more such differences" in lines


def test_verdict_names_the_slowest_settings_first() -> None:
    old = of_rates([1000 * rate for rate in STEADY], [2000 * rate for rate in STEADY])
    new = of_rates([800 * rate for rate in STEADY], [1000 * rate for rate in STEADY])
    verdict = list(comparison_lines(compare(old, new)))[-1]
    assert verdict.index("batch 32") < verdict.index("batch 16")
    assert "(-50.0%)" in verdict
    assert "(-20.0%)" in verdict


def test_setting_that_no_longer_runs_is_the_verdict_where_nothing_is_slower() -> None:
    old = of_rates(STEADY, STEADY)
    broken = replace(old.points[0], samples=(), problem="the device is gone")
    lines = list(comparison_lines(compare(old, replace(old, points=(broken, old.points[1])))))
    assert f"no longer runs: {broken.setting.label}: the device is gone" in lines
    assert lines[-1] == "verdict: 1 setting no longer runs"


def test_small_change_is_named_noise() -> None:
    old = of_rates([1000 * rate for rate in STEADY])
    text = "\n".join(comparison_lines(compare(old, scaled(old, 1.02))))
    assert "+2.0%, within the noise (up to " in text
