from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from batchdigit.bench.measurement import Measurement
from batchdigit.bench.views.shown import Shown
from batchdigit.bench.views.stages import draw_stages
from tests.support.measurements import ONNX, TORCH, measurement, point, sample


def drawn(measured: Measurement) -> tuple[list[float], str, list[str]]:
    """Widths of the bars' parts, the label below them, and all texts."""
    axes = Figure().add_subplot()
    draw_stages(axes, Shown(measured))
    return (
        [bar.get_width() for bar in axes.patches],
        axes.get_xlabel(),
        [text.get_text() for text in axes.texts],
    )


def test_bars_are_those_of_the_median_sample() -> None:
    seconds = {"list": 0.1, "read": 0.2, "predict": 0.4, "write": 0.1, "total": 1.0}
    middle = sample(seconds=seconds, busy={"network": 0.6})
    slow, fast = (sample(rate) for rate in (100.0, 10_000.0))
    widths, label, texts = drawn(measurement(point(TORCH, samples=(slow, middle, fast))))
    # Microseconds for each of 1,000 images: read, predict, list, save, journal, write, other; and
    # read, decode, fit, transfer, network.
    assert widths == pytest.approx([200, 400, 100, 0, 0, 100, 200, 0, 0, 0, 0, 600])
    assert label == "µs per image"
    assert {"1,000 µs", "600 µs", "waits for the network 400"} <= set(texts)


def test_engines_that_are_far_apart_have_scales_of_their_own() -> None:
    points = point(ONNX, [5000.0]), point(replace(TORCH, workers=2), [100.0])
    widths, label, _ = drawn(measurement(*points))
    assert label == "µs per image, each engine to its own scale"
    assert max(widths) <= 1.0
