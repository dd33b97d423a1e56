from dataclasses import replace

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from batchdigit.bench.measurement import Measurement
from batchdigit.bench.views.shown import Shown
from batchdigit.bench.views.throughput import draw_throughput
from tests.support.measurements import ONNX, TORCH, measurement, point, sweep


def drawn(measured: Measurement) -> Axes:
    axes = Figure().add_subplot()
    draw_throughput(axes, Shown(measured))
    return axes


def lines(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """The coordinates of the lines that have more than one point."""
    found = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    return [(x, y) for x, y in found if len(x) > 1]


def test_line_goes_through_the_medians_by_batch_size() -> None:
    points = [
        point(replace(TORCH, batch_size=size, workers=1), rates)
        for size, rates in ((256, (90.0, 100.0, 130.0)), (64, (50.0, 60.0, 61.0)))
    ]
    axes = drawn(measurement(*points))
    (x, y), *_ = lines(axes)
    assert x == [64, 256]
    assert y == pytest.approx([60, 100])
    assert axes.get_ylabel() == "images/s"


def test_network_alone_is_a_line_of_medians_whatever_the_workers() -> None:
    points = [
        point(replace(TORCH, batch_size=size, workers=workers), (50.0,), network_rates=(rate,))
        for size, workers, rate in ((64, 1, 80.0), (64, 2, 90.0), (256, 1, 100.0))
    ]
    axes = drawn(measurement(*points))
    assert ([64, 256], pytest.approx([85, 100])) in lines(axes)


def test_rates_that_are_far_apart_are_on_a_log_scale() -> None:
    axes = drawn(measurement(point(ONNX, (1000.0,)), point(TORCH, (10.0,))))
    assert axes.get_ylabel() == "images/s, log scale"
    assert axes.get_yscale() == "log"


def test_many_sizes_have_few_ticks() -> None:
    axes = drawn(sweep(1, tuple(range(1, 100, 3)), (2,)))
    assert len(axes.xaxis.get_major_locator()()) <= 12
    assert len(drawn(sweep(1, (16, 64, 256), (2,))).xaxis.get_major_locator()()) == 3


def test_advised_point_is_named_and_marked() -> None:
    measured = measurement(point(TORCH, (1000.0,)), point(ONNX, (2000.0,)))
    (legend,) = [
        text.get_text()
        for text in drawn(measured).get_legend().get_texts()
        if "images/s" in text.get_text()
    ]
    assert legend.startswith("advised: 2,000 images/s\nonnxruntime on cpu in fp32")
    unadvised = replace(measured, best=None)
    assert any(
        text.get_text().startswith("fastest: ")
        for text in drawn(unadvised).get_legend().get_texts()
    )
