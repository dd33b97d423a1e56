"""A measurement as an HTML page: the plot, and its numbers as tables. One file, no scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from batchdigit.bench.facts import facts
from batchdigit.bench.measurement import Point
from batchdigit.bench.views.shown import Shown, ends, short

# Nothing may be loaded, from wherever: data: is in the page itself. The styles are those of this
# page and of its plot.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { margin: 0 auto; max-width: 1200px; padding: 0 16px 32px; background: #fff; color: #1a1a1a;
  font: 15px/1.45 system-ui, sans-serif; }
svg { display: block; width: 100%; height: auto; }
h1 { position: absolute; clip-path: inset(50%); font-size: 1px; margin: 0; }
h2 { font-size: 17px; margin: 28px 0 8px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #888; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.best { background: #fff6dd; font-weight: 600; }
td.text { min-width: 14em; overflow-wrap: anywhere; }
"""
_COLUMNS = (
    "engine", "batch size", "workers", "images/s (median)", "5th to 95th percentile", "samples",
    "peak memory", "peak device memory", "label flips",
)  # fmt: skip


def page(shown: Shown, svg: str) -> str:
    """The page. ``svg`` is the plot, as a file of its own would hold it."""
    return "\n".join(_parts(shown, svg)) + "\n"


def _parts(shown: Shown, svg: str) -> Iterator[str]:
    measurement = shown.measurement
    title = escape(shown.title)
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>batchdigit bench: {title}</title>"
    yield '<link rel="icon" href="data:,">'  # or a browser asks the server for one
    yield f"<style>{_STYLE}</style>"
    yield "</head>"
    yield "<body>"
    yield f"<h1>batchdigit bench: {title}</h1>"  # for readers of structure; the plot shows it
    yield _inline(svg, f"Throughput, time by stage and break-even: {shown.title}")
    yield "<h2>Settings</h2>"
    yield from _points(shown)
    missing = [point for point in measurement.points if point not in shown.measured]
    if missing:
        yield "<h2>Settings that are not shown</h2>"
        yield from _table(
            ("setting", "why"),
            [
                [short(point.setting.label, 200), short(point.problem or "no parity", 300)]
                for point in missing
            ],
        )
    for name, data in (
        ("Machine", measurement.machine),
        ("Model", measurement.model),
        ("Source", measurement.source),
        ("Versions", measurement.versions),
        ("Method", measurement.method),
    ):
        if data:
            yield f"<h2>{name}</h2>"
            yield from _table(("", ""), [list(item) for item in facts(data).items()])
    yield "</body>"
    yield "</html>"


def _inline(svg: str, label: str) -> str:
    """The image as a part of a page: without what only a file begins with."""
    svg = re.sub(r"^.*?(?=<svg\b)", "", svg, count=1, flags=re.DOTALL)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def _points(shown: Shown) -> Iterator[str]:
    points = sorted(shown.measured, key=lambda point: -point.rate)
    columns, rows = list(_COLUMNS), [_row(point) for point in points]
    for place in reversed(range(len(columns))):
        if not any(row[place] != "" for row in rows):  # nobody could measure it
            del columns[place]
            for row in rows:
                del row[place]
    yield from _table(columns, rows, points.index(shown.best))


def _row(point: Point) -> list[str | float]:
    used, parity = point.samples[0], point.parity
    low, high = ends(point)
    flips = "" if parity is None else f"{parity.flips:,} of {parity.images:,}"
    memory = [
        max((one for one in values if one is not None), default=None)
        for values in (
            [one.peak_memory for one in point.samples],
            [one.peak_device_memory for one in point.samples],
        )
    ]
    return [
        short(point.setting.engine, 80),
        used.batch_size,
        used.workers,
        point.rate,
        _Number(f"{low:,.0f} to {high:,.0f}"),
        len(point.samples),
        *(_Number("" if size is None else f"{size / (1 << 20):,.0f} MiB") for size in memory),
        _Number(flips),
    ]


class _Number(str):
    """Text that stands in a column of numbers."""

    __slots__ = ()


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str | float]], best: int | None = None
) -> Iterator[str]:
    numbers = [not _is_text(cell) for cell in rows[0]] if rows else [False] * len(columns)
    yield '<div class="scroll"><table>'
    if any(columns):
        heads = (
            f'<th scope="col"{_class(number)}>{escape(name)}</th>'
            for name, number in zip(columns, numbers, strict=True)
        )
        yield f"<thead><tr>{''.join(heads)}</tr></thead>"
    yield "<tbody>"
    for place, row in enumerate(rows):
        cells = (
            f"<td{_class(not _is_text(cell)) or ' class=' + chr(34) + 'text' + chr(34)}>"
            f"{escape(_text(cell))}</td>"
            for cell in row
        )
        highlighted = ' class="best"' if place == best else ""
        yield f"<tr{highlighted}>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _is_text(cell: str | float) -> bool:
    return isinstance(cell, str) and not isinstance(cell, _Number)


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _text(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{cell:,.0f}"
