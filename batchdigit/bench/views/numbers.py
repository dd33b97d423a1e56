"""Numbers as the table, the page and the plot write them."""

from __future__ import annotations

from batchdigit.bench.measurement import Point

_MEGABYTE = 1_000_000


def megabytes(size: int | None) -> str:
    """A size in bytes as ``300 MB``; empty where it is not known."""
    return "" if size is None else f"{size / _MEGABYTE:,.0f} MB"


def two_digits(count: float) -> str:
    """A number of images with two digits that count, because more would feign precision."""
    return f"{float(f'{count:.2g}'):,.0f}"


def spread(point: Point) -> str:
    """The 5th to the 95th percentile of a point's rates."""
    low, high = point.spread
    return f"{low:,.0f} to {high:,.0f}"


def microseconds(seconds: float, images: int) -> float:
    """Microseconds for each of the images."""
    return seconds / images * 1e6
