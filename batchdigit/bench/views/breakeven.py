"""The panel of whole commands: from how many images on an engine is worth its start-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from batchdigit.bench.analysis.advice import Command, done_first
from batchdigit.bench.views.looks import GREY, colour_of, heading, ink, plain_number
from batchdigit.bench.views.numbers import two_digits
from batchdigit.bench.views.shown import Shown, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_IMAGES = 10_000_000


def draw_break_even(axes: Axes, shown: Shown) -> None:
    """Seconds of a whole command against the number of images, on logarithmic axes."""
    commands = {}
    for engine in shown.engines:
        point = shown.leaders[engine]
        start = shown.measurement.start_of(point.setting)
        if start is not None:
            commands[engine] = Command(start, point.rate)
    heading(
        axes,
        "From how many images on an engine pays",
        "seconds of a whole command, including its start",
    )
    if not commands:
        axes.text(0.5, 0.5, "the start was not measured", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    counts = [10 ** (place / 40) for place in range(7 * 40 + 1)]
    for engine, command in commands.items():
        axes.plot(
            counts, [command.seconds(count) for count in counts],
            color=colour_of(shown, engine), linewidth=2,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(1, MAX_IMAGES)
    axes.xaxis.set_major_locator(FixedLocator([1, 100, 10_000, 1_000_000]))
    axes.xaxis.set_minor_locator(FixedLocator([10, 1_000, 100_000, MAX_IMAGES]))
    axes.yaxis.set_major_locator(LogLocator(numticks=9))
    axes.tick_params(axis="y", which="minor", length=0)
    axes.grid(visible=True, axis="x", which="minor")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(plain_number))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("images (log scale)")
    axes.set_ylabel("seconds (log scale)")
    for place, (count, engine) in enumerate(crossings(commands)):
        axes.axvline(count, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
        left = count > 3_000
        axes.annotate(
            f"from {two_digits(count)} images: {short(engine)}",
            (count, 1), (-5 if left else 5, -13 - 16 * place),
            xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="right" if left else "left", fontsize=8.5, zorder=6,
            color=ink(colour_of(shown, engine)),
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def crossings(commands: Mapping[str, Command]) -> list[tuple[float, str]]:
    """From how many images on another engine takes the least time, and which engine that is."""
    found = []
    for engine, command in commands.items():
        others = [other for name, other in commands.items() if name != engine]
        first, _ = done_first(command, others) or (0.0, 0.0)
        if 1 < first < MAX_IMAGES:
            found.append((first, engine))
    return sorted(found)
