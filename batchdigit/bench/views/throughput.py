"""The panel of images per second against the size of a batch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from batchdigit.bench.measurement import Point
from batchdigit.bench.views.looks import GREY, MARKERS, colour_of, heading, marker_of, plain_number
from batchdigit.bench.views.shown import Shown, in_words, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_TICKS = 12
_LOG_FROM = 15.0  # the ratio from which on a linear scale would hide the slowest


def draw_throughput(axes: Axes, shown: Shown) -> None:
    """Images per second against the size of a batch."""
    lines = list(_lines(shown))
    for place, (engine, workers, points) in enumerate(lines):
        # Without an offset, the bars of one batch size would hide each other.
        aside = 2 ** (0.24 * (place / (len(lines) - 1) - 0.5)) if len(lines) > 1 else 1.0
        _draw_line(axes, points, aside, colour_of(shown, engine), marker_of(shown, workers))
        if shown.best in points:
            _mark_best(axes, shown.best, aside)
    for engine in shown.engines:
        _draw_network(axes, shown, engine)
    _scale_batches(axes, sorted({point.samples[0].batch_size for point in shown.points}))
    _scale_rates(axes, shown.points)
    axes.legend(
        handles=list(_legend(shown)),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        frameon=False,
        fontsize=9,
        labelspacing=0.45,
    )
    heading(
        axes,
        "Throughput",
        "images per second of whole runs: reading, predicting, writing the report",
    )


def _lines(shown: Shown) -> Iterator[tuple[str, int, list[Point]]]:
    for engine in shown.engines:
        for workers in shown.workers:
            points = [
                point
                for point in shown.points
                if point.setting.engine == engine and point.samples[0].workers == workers
            ]
            if points:
                yield engine, workers, sorted(points, key=lambda one: one.samples[0].batch_size)


def _draw_line(axes: Axes, points: list[Point], aside: float, colour: str, marker: str) -> None:
    sizes = [point.samples[0].batch_size * aside for point in points]
    rates = [point.rate for point in points]
    bars = [
        [point.rate - point.spread[0] for point in points],
        [point.spread[1] - point.rate for point in points],
    ]
    axes.errorbar(
        sizes, rates, bars, color=colour, marker=marker, markersize=5, linewidth=1.6,
        elinewidth=1, capsize=2.5, markeredgecolor="white", markeredgewidth=0.6,
    )  # fmt: skip


def _draw_network(axes: Axes, shown: Shown, engine: str) -> None:
    """The network alone, which does not depend on the number of workers."""
    rates: dict[int, list[float]] = {}
    for point in shown.points:
        if point.setting.engine == engine and point.network_rates:
            rates.setdefault(point.samples[0].batch_size, []).extend(point.network_rates)
    if rates:
        sizes = sorted(rates)
        axes.plot(
            sizes, [statistics.median(rates[size]) for size in sizes],
            color=colour_of(shown, engine), linestyle=(0, (4, 3)), linewidth=0.9, marker="_",
            markersize=7,
        )  # fmt: skip


def _mark_best(axes: Axes, best: Point, aside: float) -> None:
    axes.plot(
        best.samples[0].batch_size * aside, best.rate, marker="o", markersize=13, fillstyle="none",
        color="black", markeredgewidth=1.6, zorder=5,
    )  # fmt: skip


def _scale_batches(axes: Axes, sizes: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    if len(sizes) > _MAX_TICKS:
        low, high = (round(math.log2(size)) for size in (sizes[0], sizes[-1]))
        step = max(1, math.ceil((high - low + 1) / _MAX_TICKS))
        sizes = [2**power for power in range(low, high + 1, step)]
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_xlabel("batch size (images, log scale)")


def _scale_rates(axes: Axes, points: Sequence[Point]) -> None:
    rates = [point.rate for point in points]
    highest = max(
        max(point.spread[1], statistics.median(point.network_rates or [0.0])) for point in points
    )
    scale = ""
    if highest / min(rates) > _LOG_FROM:
        axes.set_yscale("log")
        axes.set_ylim(min(point.spread[0] for point in points) / 1.4, highest * 1.4)
        _decades(axes.yaxis)
        scale = ", log scale"
    else:
        axes.set_ylim(0, highest * 1.1)
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.set_ylabel(f"images/s{scale}")


def _decades(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)


def _legend(shown: Shown) -> Iterator[Line2D]:
    for engine in shown.engines:
        yield Line2D([], [], color=colour_of(shown, engine), linewidth=2.5, label=short(engine))
    for workers in shown.workers[: len(MARKERS)]:
        name = "1 worker" if workers == 1 else f"{workers:,} workers"
        yield Line2D(
            [], [], color=GREY, linestyle="none", marker=marker_of(shown, workers), label=name
        )
    if any(point.network_rates for point in shown.points):
        yield Line2D(
            [],
            [],
            color=GREY,
            linestyle=(0, (4, 3)),
            linewidth=0.9,
            marker="_",
            label="the network alone",
        )
    best = shown.best
    advised = "advised" if best.setting == shown.measurement.best else "fastest"
    yield Line2D(
        [], [], color="black", linestyle="none", marker="o", fillstyle="none", markersize=10,
        label=f"{advised}: {best.rate:,.0f} images/s\n{short(best.setting.engine)}\n"
        f"{in_words(best)}",
    )  # fmt: skip
