"""What the panels of a plot have in common: colours, markers, headings, numbers on axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchdigit.bench.views.shown import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito (Color universal design, 2008), without its yellow, which is hard to
# see as a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
GREY = "#555555"


def colour_of(shown: Shown, engine: str) -> str:
    """The colour of an engine, the same in all panels."""
    return COLOURS[shown.engines.index(engine)]


def marker_of(shown: Shown, workers: int) -> str:
    """The marker of a number of workers."""
    return MARKERS[shown.workers.index(workers) % len(MARKERS)]


def ink(colour: str) -> tuple[float, ...]:
    """A colour for text: darker, because some would be hard to read on white."""
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
