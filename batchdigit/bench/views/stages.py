"""The panel of where the time goes: the best point of each engine, by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.legend import Legend
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter
from matplotlib.transforms import ScaledTranslation

from batchdigit.bench.analysis.bottleneck import median_sample, own_stages
from batchdigit.bench.measurement import Point
from batchdigit.bench.views.looks import colour_of, heading, ink, plain_number
from batchdigit.bench.views.numbers import microseconds
from batchdigit.bench.views.shown import Shown, in_words, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OWN_SCALE_FROM = 6.0  # the ratio from which on bars on a common scale would be too short

# Stages by their names in a sample: what the plot calls them, and their colours.
TIME = {
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


@dataclass(frozen=True)
class _Bars:
    """Microseconds per image of an engine: time of the main thread, and work, by stage."""

    time: Mapping[str, float]
    work: Mapping[str, float]

    @property
    def length(self) -> float:
        """That of the longer bar."""
        return max(sum(self.time.values()), sum(self.work.values()))


def draw_stages(axes: Axes, shown: Shown) -> None:
    """Microseconds per image by stage, for the best point of each engine."""
    bars = [_bars(point) for point in shown.leaders.values()]
    lengths = [one.length for one in bars]
    own_scale = max(lengths) > _OWN_SCALE_FROM * min(lengths)
    width = 1.0 if own_scale else max(lengths)
    for place, (engine, point) in enumerate(shown.leaders.items()):
        unit = lengths[place] if own_scale else 1.0
        axes.text(
            0, 3 * place - 0.72, f"{short(engine)}, {in_words(point)}",
            fontsize=9, fontweight="bold", color=ink(colour_of(shown, engine)), va="center",
        )  # fmt: skip
        _draw_bar(axes, 3 * place, bars[place].time, TIME, unit, width)
        _draw_bar(axes, 3 * place + 0.95, bars[place].work, WORK, unit, width)
    axes.set_xlim(0, width * 1.16)
    axes.set_ylim(max(3 * len(bars), 9) - 1.2, -1.3)
    rows = [3 * place + 0.95 * row for place in range(len(bars)) for row in (0, 1)]
    axes.yaxis.set_major_locator(FixedLocator(rows))
    axes.set_yticklabels(["time", "work"] * len(bars))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    if own_scale:
        axes.set_xticks([])
        axes.set_xlabel("µs per image, each engine to its own scale")
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
        axes.set_xlabel("µs per image")
    heading(
        axes, "Where the time goes",
        "time of the main thread; work, summed over all processes, threads and devices",
    )  # fmt: skip
    _explain_stages(axes, bars)


def _bars(point: Point) -> _Bars:
    """Those of the median sample, which are also what the table of a terminal says."""
    sample = median_sample(point)
    own = own_stages(sample)
    return _Bars(
        time={stage: microseconds(own[stage], sample.images) for stage in TIME},
        work={stage: microseconds(sample.busy.get(stage, 0.0), sample.images) for stage in WORK},
    )


def _draw_bar(
    axes: Axes,
    y: float,
    values: Mapping[str, float],
    looks: Mapping[str, tuple[str, str]],
    unit: float,
    width: float,
) -> None:
    """A bar of the parts ``values``, in ``unit`` microseconds, in a panel ``width`` wide."""
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


def _explain_stages(axes: Axes, bars: Sequence[_Bars]) -> None:
    """A legend for the stages that occur: time in the first row, work in the second."""
    times, works = [one.time for one in bars], [one.work for one in bars]
    for looks, title, values, below in ((TIME, "time", times, -0.5), (WORK, "work", works, -0.72)):
        seen = [stage for stage in looks if any(one[stage] > 0 for one in values)]
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
