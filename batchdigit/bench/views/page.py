"""A measurement as an HTML page: the plot, and its numbers as tables. One file, no scripts."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from batchdigit.bench.facts import facts
from batchdigit.bench.measurement import Point
from batchdigit.bench.views.numbers import megabytes, spread
from batchdigit.bench.views.shown import Shown, short
from batchdigit.errors import BatchdigitError

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATE = "page.html.jinja"


def template() -> Template:
    """The page without its values. Raises BatchdigitError without jinja2."""
    try:
        import jinja2
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise BatchdigitError(
            f"cannot load jinja2, which fills pages: {error}", "pip install 'batchdigit[plot]'"
        ) from error
    source = resources.files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    # Every value is escaped, because names in a measurement may come from anywhere.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(source)


def page(shown: Shown, svg: str) -> str:
    """The page. ``svg`` is the plot as the text of an SVG file.

    Raises BatchdigitError without jinja2.
    """
    from markupsafe import Markup

    measurement = shown.measurement
    points = sorted(shown.measured, key=lambda point: -point.rate)
    rows = [_row(point) for point in points]
    # Nobody could measure a column that is empty.
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    return template().render(
        title=shown.title,
        # The plot is our own, and escaped by what drew it. Only a file begins with a declaration.
        svg=Markup(svg[svg.index("<svg") :]),  # noqa: S704
        columns=columns,
        settings=[[row[name] for name in columns] for row in rows],
        best=points.index(shown.best),
        missing=[
            (short(point.setting.label, 200), short(point.problem or "no parity", 300))
            for point in measurement.points
            if point not in shown.measured
        ],
        facts={
            "Machine": facts(measurement.machine),
            "Model": facts(measurement.model),
            "Source": facts(measurement.source),
            "Versions": facts(measurement.versions),
            "Method": facts(measurement.method),
        },
    )


def _row(point: Point) -> dict[str, str]:
    """What the table of settings says of a point, by column."""
    used, parity = point.samples[0], point.parity
    return {
        "engine": short(point.setting.engine, 80),
        "batch size": f"{used.batch_size:,}",
        "workers": f"{used.workers:,}",
        "images/s (median)": f"{point.rate:,.0f}",
        "5th to 95th percentile": spread(point),
        "samples": f"{len(point.samples):,}",
        "peak memory": megabytes(_largest([one.peak_memory for one in point.samples])),
        "peak device memory": megabytes(
            _largest([one.peak_device_memory for one in point.samples])
        ),
        "label flips": "" if parity is None else f"{parity.flips:,} of {parity.images:,}",
    }


def _largest(sizes: list[int | None]) -> int | None:
    return max((size for size in sizes if size is not None), default=None)
