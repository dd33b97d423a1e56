"""What a plot of a measurement is made of: three panels that matplotlib draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from batchdigit.bench.records import Point, percentile
from batchdigit.bench.shown import Shown, ends, in_words, per_image, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito (Color universal design, 2008), but its yellow as lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
GREY, LIGHT = "#555555", "#E4E4E4"
MOST_IMAGES = 10_000_000
_MOST_TICKS = 12
_LOG_FROM = 15.0  # times between the fastest and the slowest, where a linear scale hides the latter
_OWN_SCALE_FROM = 6.0

# Stages of the main thread: their names in Sample.seconds, in the plot, and their colours.
CLOCK = {
    "read": ("waits for images", "#E69F00"),
    "predict": ("waits for the network", "#0072B2"),
    "save": ("saves fitted images", "#CC79A7"),
    "journal": ("journal", "#009E73"),
    "write": ("writes rows", "#56B4E9"),
    "other": ("other", "#BBBBBB"),
}
WORK = {
    "read": ("reads files", "#F0E442"),
    "decode": ("decodes", "#D55E00"),
    "fit": ("fits", "#CC79A7"),
    "transfer": ("transfers", "#009E73"),
    "network": ("network", "#0072B2"),
}


def colour_of(shown: Shown, engine: str) -> str:
    """The colour of an engine, the same in all panels."""
    return COLOURS[shown.engines.index(engine)]


def marker_of(shown: Shown, workers: int) -> str:
    """The marker of a number of workers."""
    return MARKERS[shown.workers.index(workers) % len(MARKERS)]


def ink(colour: str) -> tuple[float, ...]:
    """A colour for text: darker, or some of them would be hard to read on white."""
    return tuple(int(colour[place : place + 2], 16) / 255 * 0.72 for place in (1, 3, 5))


def plain_number(value: float, _place: int | None = None) -> str:
    """A number on an axis: 1,000, 0.01."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def heading(axes: Axes, text: str, explained: str) -> None:
    """A panel's name, and how to read it."""
    axes.set_title(f"{text}\n", loc="left", fontsize=11.5, fontweight="bold", pad=4)
    axes.annotate(
        explained,
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=GREY,
    )


# --- images a second


def draw_throughput(axes: Axes, shown: Shown) -> None:
    """Images a second against the size of a batch."""
    lines = list(_lines(shown))
    for place, (engine, workers, points) in enumerate(lines):
        # Bars of one batch size would hide each other.
        aside = 2 ** (0.24 * (place / (len(lines) - 1) - 0.5)) if len(lines) > 1 else 1.0
        _draw_line(axes, points, aside, (colour_of(shown, engine), marker_of(shown, workers)))
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
        axes, "Throughput", "images a second of whole runs: reading, predicting, writing the report"
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


def _draw_line(axes: Axes, points: list[Point], aside: float, look: tuple[str, str]) -> None:
    colour, marker = look
    sizes = [point.samples[0].batch_size * aside for point in points]
    rates = [point.rate for point in points]
    bars = [
        [point.rate - ends(point)[0] for point in points],
        [ends(point)[1] - point.rate for point in points],
    ]
    axes.errorbar(
        sizes, rates, bars, color=colour, marker=marker, markersize=5, linewidth=1.6,
        elinewidth=1, capsize=2.5, markeredgecolor="white", markeredgewidth=0.6,
    )  # fmt: skip


def _draw_network(axes: Axes, shown: Shown, engine: str) -> None:
    """The network alone: the number of workers is nothing to it."""
    rates: dict[int, list[float]] = {}
    for point in shown.points:
        if point.setting.engine == engine and point.network_rates:
            rates.setdefault(point.samples[0].batch_size, []).extend(point.network_rates)
    if rates:
        sizes = sorted(rates)
        axes.plot(
            sizes, [percentile(rates[size], 0.5) for size in sizes],
            color=colour_of(shown, engine), linestyle=(0, (4, 3)), linewidth=0.9, marker="_",
            markersize=7,
        )  # fmt: skip


def _mark_best(axes: Axes, best: Point, aside: float) -> None:
    place = (best.samples[0].batch_size * aside, best.rate)
    axes.plot(
        *place, marker="o", markersize=13, fillstyle="none", color="black", markeredgewidth=1.6,
        zorder=5,
    )  # fmt: skip


def _scale_batches(axes: Axes, sizes: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    if len(sizes) > _MOST_TICKS:
        low, high = (round(math.log2(size)) for size in (sizes[0], sizes[-1]))
        step = max(1, math.ceil((high - low + 1) / _MOST_TICKS))
        sizes = [2**power for power in range(low, high + 1, step)]
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_xlabel("batch size (images, log scale)")


def _scale_rates(axes: Axes, points: Sequence[Point]) -> None:
    rates = [point.rate for point in points]
    highest = max(
        max(ends(point)[1], percentile(point.network_rates or [0.0], 0.5)) for point in points
    )
    scale = ""
    if highest / min(rates) > _LOG_FROM:
        axes.set_yscale("log")
        axes.set_ylim(min(ends(point)[0] for point in points) / 1.4, highest * 1.4)
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


# --- where the time goes


def draw_stages(axes: Axes, shown: Shown) -> None:
    """Microseconds an image by stage, of each engine's best point."""
    bars = [(engine, *_stages(shown.best_of(engine))) for engine in shown.engines]
    longest = [max(sum(clock.values()), sum(work.values())) for _, clock, work in bars]
    own_scale = max(longest) > _OWN_SCALE_FROM * min(longest)
    width = 1.0 if own_scale else max(longest)
    for place, (engine, clock, work) in enumerate(bars):
        unit = longest[place] if own_scale else 1.0
        axes.text(
            0, 3 * place - 0.72, f"{short(engine)}, {in_words(shown.best_of(engine))}",
            fontsize=9, fontweight="bold", color=ink(colour_of(shown, engine)), va="center",
        )  # fmt: skip
        for row, (values, looks) in enumerate(((clock, CLOCK), (work, WORK))):
            _draw_bar(axes, 3 * place + 0.95 * row, values, (looks, unit, width))
    axes.set_xlim(0, width * 1.16)
    axes.set_ylim(max(3 * len(bars), 9) - 1.2, -1.3)
    rows = [3 * place + 0.95 * row for place in range(len(bars)) for row in (0, 1)]
    axes.yaxis.set_major_locator(FixedLocator(rows))
    axes.set_yticklabels(["time", "work"] * len(bars))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    if own_scale:
        axes.set_xticks([])
        axes.set_xlabel("µs an image, each engine to its own scale")
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
        axes.set_xlabel("µs an image")
    heading(
        axes, "Where the time goes",
        "time of the main thread; work, summed over all processes, threads and devices",
    )  # fmt: skip
    _explain_stages(axes, bars)


def _stages(point: Point) -> tuple[dict[str, float], dict[str, float]]:
    stages = tuple(stage for stage in CLOCK if stage != "other")
    clock = per_image(point, "seconds", stages)
    whole = percentile([one.span / one.images * 1e6 for one in point.samples], 0.5)
    clock["other"] = max(0.0, whole - sum(clock.values()))
    return clock, per_image(point, "busy", tuple(WORK))


def _draw_bar(
    axes: Axes,
    y: float,
    values: Mapping[str, float],
    scale: tuple[Mapping[str, tuple[str, str]], float, float],
) -> None:
    looks, unit, width = scale
    left = 0.0
    for stage, value in values.items():
        name, colour = looks[stage]
        part = value / unit
        axes.barh(y, part, 0.82, left, color=colour, edgecolor="white", linewidth=0.8)
        for text in (f"{name} {_digits(value)}", _digits(value)):
            if part > width * 0.0135 * (len(text) + 1):
                dark = colour in ("#0072B2", "#D55E00", "#009E73")
                axes.text(
                    left + part / 2, y, text, ha="center", va="center", fontsize=8,
                    color="white" if dark else "black",
                )  # fmt: skip
                break
        left += part
    total = sum(values.values())
    axes.text(
        left + width * 0.012, y, f"{_digits(total)} µs", va="center", fontsize=8.5, color="black"
    )


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _explain_stages(
    axes: Axes, bars: Sequence[tuple[str, dict[str, float], dict[str, float]]]
) -> None:
    """A legend for the stages that there are: time in the first row, work in the second."""
    clocks, works = [clock for _, clock, _ in bars], [work for *_, work in bars]
    for looks, title, of_bars, below in (
        (CLOCK, "time", clocks, -0.5),
        (WORK, "work", works, -0.72),
    ):
        seen = [stage for stage in looks if any(bar.get(stage, 0) > 0 for bar in of_bars)]
        inches = ScaledTranslation(0, below, axes.figure.dpi_scale_trans)
        legend = Legend(
            axes,
            [Patch(color=looks[stage][1]) for stage in seen],
            [looks[stage][0] for stage in seen],
            loc="upper left",
            bbox_to_anchor=(0.0, 0.0),
            bbox_transform=axes.transAxes + inches,
            ncols=max(1, len(seen)),
            frameon=False,
            fontsize=8.5,
            handlelength=0.9,
            handletextpad=0.4,
            columnspacing=1.0,
            borderpad=0,
            borderaxespad=0,
        )
        axes.add_artist(legend)
        axes.annotate(
            title, (0, 0), (-6, below * 72 - 1.5), xycoords="axes fraction",
            textcoords="offset points", ha="right", va="top", fontsize=9,
        )  # fmt: skip


# --- which engine pays from how many images on


def draw_break_even(axes: Axes, shown: Shown) -> None:
    """Seconds of a whole command against the number of images, on logarithmic axes."""
    costs = {}
    for engine in shown.engines:
        point = shown.best_of(engine)
        start = shown.measurement.start_of(point.setting)
        if start is not None:
            costs[engine] = (start, 1 / point.rate)
    heading(
        axes,
        "From how many images on an engine pays",
        "seconds of a whole command, start-up and all",
    )
    if not costs:
        axes.text(0.5, 0.5, "start-up was not measured", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    counts = [10 ** (place / 40) for place in range(7 * 40 + 1)]
    for engine, (start, each) in costs.items():
        axes.plot(
            counts, [start + count * each for count in counts],
            color=colour_of(shown, engine), linewidth=2,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(1, MOST_IMAGES)
    axes.xaxis.set_major_locator(FixedLocator([1, 100, 10_000, 1_000_000]))
    axes.xaxis.set_minor_locator(FixedLocator([10, 1_000, 100_000, MOST_IMAGES]))
    axes.yaxis.set_major_locator(LogLocator(numticks=9))
    axes.tick_params(axis="y", which="minor", length=0)
    axes.grid(visible=True, axis="x", which="minor")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(plain_number))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("images (log scale)")
    axes.set_ylabel("seconds (log scale)")
    for place, (count, engine) in enumerate(crossings(costs)):
        axes.axvline(count, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
        left = count > 3_000
        axes.annotate(
            f"from {_rounded(count):,} images: {short(engine)}",
            (count, 1), (-5 if left else 5, -13 - 16 * place),
            xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="right" if left else "left", fontsize=8.5, zorder=6,
            color=ink(colour_of(shown, engine)),
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def crossings(costs: Mapping[str, tuple[float, float]]) -> list[tuple[float, str]]:
    """From which number of images on another engine takes the least time, and which one.

    ``costs`` are the seconds that each takes to start, and those for each image.
    """
    found: list[tuple[float, str]] = []
    count = 1.0
    current = min(costs, key=lambda name: costs[name][0] + costs[name][1])
    while True:
        start, each = costs[current]
        later = {
            name: (other_start - start) / (each - other_each)
            for name, (other_start, other_each) in costs.items()
            if other_each < each and (other_start - start) / (each - other_each) >= count
        }
        if not later:
            return found
        current = min(later, key=lambda name: (later[name], costs[name][1]))
        count = later[current]
        if count >= MOST_IMAGES:
            return found
        found.append((count, current))


def _rounded(count: float) -> int:
    """Two digits of it: more would claim to know more than is known."""
    return int(float(f"{count:.2g}"))
