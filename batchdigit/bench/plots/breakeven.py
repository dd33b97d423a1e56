"""The panel of whole commands: from how many images on an engine is worth its start-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from batchdigit.bench.plots.looks import GREY, colour_of, heading, ink, plain_number
from batchdigit.bench.plots.shown import Shown, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_IMAGES = 10_000_000


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
