import pytest
from matplotlib.figure import Figure

from batchdigit.bench.analysis.advice import Command
from batchdigit.bench.views.breakeven import crossings, draw_break_even
from batchdigit.bench.views.shown import Shown
from tests.support.measurements import ONNX, measurement, point


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({"a": (1.0, 0.1)}, []),
        ({"a": (1.0, 0.1), "b": (2.0, 0.2)}, []),
        ({"a": (1.0, 0.1), "b": (2.0, 0.05)}, [(20, "b")]),
        ({"b": (2.0, 0.05), "a": (1.0, 0.1)}, [(20, "b")]),
        ({"a": (1.0, 0.1), "b": (1.0, 0.1)}, []),
        # The one in the middle is never the fastest.
        ({"a": (1.0, 0.1), "b": (9.0, 0.09), "c": (2.0, 0.05)}, [(20, "c")]),
        ({"a": (1.0, 0.1), "b": (2.0, 0.05), "c": (12.0, 0.01)}, [(20, "b"), (250, "c")]),
        # Beyond the largest number of images that is drawn.
        ({"a": (1.0, 1e-6), "b": (1000.0, 5e-7)}, []),
    ],
)
def test_crossings_are_where_another_engine_becomes_the_fastest(
    costs: dict[str, tuple[float, float]], expected: list[tuple[float, str]]
) -> None:
    found = crossings({name: Command(start, 1 / each) for name, (start, each) in costs.items()})
    assert [name for _, name in found] == [name for _, name in expected]
    assert [count for count, _ in found] == pytest.approx([count for count, _ in expected])


def test_start_that_was_not_measured_is_said() -> None:
    axes = Figure().add_subplot()
    draw_break_even(axes, Shown(measurement(point(ONNX), starts={})))
    assert [text.get_text() for text in axes.texts if "start" in text.get_text()] == [
        "seconds of a whole command, including its start",
        "the start was not measured",
    ]


def test_lines_are_the_seconds_of_a_command() -> None:
    axes = Figure().add_subplot()
    draw_break_even(axes, Shown(measurement(point(ONNX, [1000.0]), starts={ONNX: 2.0})))
    (line,) = axes.lines
    assert line.get_ydata()[0] == pytest.approx(2.001)  # one image
    assert line.get_ydata()[-1] == pytest.approx(10_002.0)  # ten million
