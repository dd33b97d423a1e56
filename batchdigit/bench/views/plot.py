"""A measurement as a plot: an SVG or PNG image, or an HTML page with a table below it.

The same measurement gives the same bytes. Nothing in them is loaded from elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from batchdigit.backends.tuning import cache_file
from batchdigit.bench.measurement import Measurement
from batchdigit.bench.views.page import page, template
from batchdigit.bench.views.shown import Shown
from batchdigit.errors import BatchdigitError, UsageError
from batchdigit.system.publish import Publication, check_target, writing
from batchdigit.system.regular import read_regular
from batchdigit.system.replacing import Kind, check_replaceable
from batchdigit.system.working_folder import importing_elsewhere

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".html", ".png", ".svg")
WIDTH = 12.0  # inches; where a screen shows it 1200 pixels wide, a point is 1.4 pixels
TITLE = "batchdigit bench"
MAX_BYTES = 50 << 20  # of a plot that is there already
_MARKS = (b">batchdigit bench</text>", b"tEXtSoftware\0batchdigit bench")
PNG_RESOLUTION = 200  # dots per inch: sharp on screens of high resolution, too
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # it comes with matplotlib
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",  # text that can be searched and read aloud, not outlines
    "svg.hashsalt": "batchdigit",
    "text.parse_math": False,  # a dollar in a device's name is a dollar
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def _is_plot(path: Path) -> bool:
    """Whether a file is a plot: one with our mark, or with the title as it is drawn."""
    data = read_regular(path, MAX_BYTES) or b""
    return any(mark in data for mark in _MARKS)


PLOT = Kind("a plot", _is_plot)


def check_plot_path(path: Path, *, force: bool = False) -> None:
    """Raise, before anything is measured, what :func:`draw` would raise about ``path``.

    UsageError for another extension, OutputError where no file can be created, or where there is
    one that is no plot of ours and ``force`` is not given, BatchdigitError without matplotlib, or
    without jinja2 for a page.
    """
    if path.suffix.lower() not in FORMATS:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", f"name a file in it: {path / 'bench.html'}")
        raise UsageError(
            f"{path.name!r} does not say which kind of plot to draw",
            f"end it in one of {', '.join(FORMATS)}",
        )
    check_target(path)
    check_replaceable(path, PLOT, force=force)
    with _matplotlib():
        pass
    if path.suffix.lower() == ".html":
        template()


def draw(measurement: Measurement, path: Path, *, force: bool = False) -> None:
    """Draw a measurement into a file, which appears whole.

    Raises what :func:`check_plot_path` raises, and BatchdigitError where no point can be shown.
    """
    check_plot_path(path, force=force)
    shown = Shown(measurement)
    suffix = path.suffix.lower()
    with _matplotlib():
        figure = _figure(shown)
        data = _png(figure) if suffix == ".png" else _svg(figure)
    if suffix == ".html":
        data = page(shown, data.decode()).encode()
    with Publication(force=force) as publication:
        handle = publication.create(path, PLOT)
        with writing(path):
            handle.write(data)
        publication.publish()


@contextlib.contextmanager
def _matplotlib() -> Iterator[None]:
    """Around all that matplotlib does: its own settings instead of the user's, and no messages.

    It keeps its list of fonts in our cache, instead of making folders of its own below the user's
    home. Without a home it would say where that list is; and it would say which letters its font
    lacks, though a browser finds them elsewhere.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with _lists_in_our_cache(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with importing_elsewhere():  # a matplotlibrc here is not the user's
                    import matplotlib as mpl
                    import matplotlib.figure
            except (ImportError, OSError, RuntimeError, ValueError) as error:
                raise BatchdigitError(
                    f"cannot load matplotlib, which draws plots: {error}",
                    "pip install 'batchdigit[plot]'",
                ) from error
            with mpl.rc_context():
                mpl.rcdefaults()
                mpl.rcParams.update(_SETTINGS)
                yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def _lists_in_our_cache() -> Iterator[None]:
    """What matplotlib keeps goes to our cache in the block, unless the user has chosen a place."""
    ours = "MPLCONFIGDIR" not in os.environ
    try:
        with contextlib.suppress(RuntimeError):  # there is no home folder
            os.environ.setdefault("MPLCONFIGDIR", str(cache_file().with_name("matplotlib")))
        yield
    finally:
        if ours:
            os.environ.pop("MPLCONFIGDIR", None)


def _figure(shown: Shown) -> Figure:
    """The whole plot, without pyplot, which keeps figures and looks for a display."""
    from matplotlib.figure import Figure

    from batchdigit.bench.views.breakeven import draw_break_even
    from batchdigit.bench.views.stages import draw_stages
    from batchdigit.bench.views.throughput import draw_throughput

    notes = textwrap.wrap(" ".join(shown.notes), 180)
    below = max(3.2, 0.8 * len(shown.engines) + 0.2)
    top, upper, between, bottom = 1.25, 3.9, 1.2, 1.15 + 0.19 * len(notes)
    height = top + upper + between + below + bottom
    figure = Figure(figsize=(WIDTH, height), facecolor="white")

    def inches(
        left: float, low: float, right: float, high: float
    ) -> tuple[float, float, float, float]:
        return left / WIDTH, low / height, (right - left) / WIDTH, (high - low) / height

    floor = bottom + below + between
    draw_throughput(figure.add_axes(inches(0.95, floor, 8.6, floor + upper)), shown)
    draw_stages(figure.add_axes(inches(0.65, bottom, 6.7, bottom + below)), shown)
    draw_break_even(figure.add_axes(inches(7.65, bottom, 11.75, bottom + below)), shown)
    figure.text(0.2 / WIDTH, 1 - 0.36 / height, TITLE, fontsize=15, weight="bold")
    figure.text(0.2 / WIDTH, 1 - 0.62 / height, shown.title, fontsize=10, color="#555555")
    figure.text(
        0.2 / WIDTH, 0.14 / height, "\n".join(notes), fontsize=8.5, color="#555555", linespacing=1.4
    )
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=PNG_RESOLUTION, metadata={"Software": TITLE})
    return stream.getvalue()


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    # A reader of XML might fetch the document type's definition.
    return re.sub(rb"<!DOCTYPE[^>]*>\s*", b"", stream.getvalue(), count=1)
