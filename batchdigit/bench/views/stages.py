"""The panel of where the time goes: each engine's best point, by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.legend import Legend
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter
from matplotlib.transforms import ScaledTranslation

from batchdigit.bench.measurement import Point, percentile
from batchdigit.bench.views.looks import colour_of, heading, ink, plain_number
from batchdigit.bench.views.shown import Shown, in_words, per_image, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OWN_SCALE_FROM = 6.0  # times between the engines, where bars of one scale would be too short

# Stages of the main thread: their names in Sample.seconds, in the plot, and their colours.
CLOCK = {
    "read": ("waits for images", "#E69F00"),
    "predict": ("waits for the network", "#0072B2"),
    "list": ("lists files", "#F0E442"),
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


def draw_stages(axes: Axes, shown: Shown) -> None:
    """Microseconds an image by stage, of each engine's best point."""
    bars = [(engine, *_stages(shown.leaders[engine])) for engine in shown.engines]
    longest = [max(sum(clock.values()), sum(work.values())) for _, clock, work in bars]
    own_scale = max(longest) > _OWN_SCALE_FROM * min(longest)
    width = 1.0 if own_scale else max(longest)
    for place, (engine, clock, work) in enumerate(bars):
        unit = longest[place] if own_scale else 1.0
        axes.text(
            0, 3 * place - 0.72, f"{short(engine)}, {in_words(shown.leaders[engine])}",
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
