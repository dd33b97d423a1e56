"""What ``batchdigit bench compare`` prints: lines of text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchdigit.bench.analysis.compare import Change, Comparison
from batchdigit.errors import MAX_PROBLEM, one_line
from batchdigit.system.words import counted

MAX_WARNINGS = 8
_MAX_NAMED = 5  # settings in a verdict
_VERDICTS = {
    "faster": "faster",
    "slower": "slower",
    "same": "within the noise",
    "unknown": "too few samples to tell from chance",
}


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Warnings, the change of each setting, the changes of several together, the verdict."""
    # Names come from files, and could hold commands for a terminal.
    for line in _lines(comparison):
        yield line[: len(line) - len(line.lstrip())] + one_line(line, MAX_PROBLEM)


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"measured {comparison.old}, then {comparison.new}"
    for warning in comparison.warnings[:MAX_WARNINGS]:
        yield f"note: {warning}"
    if (more := len(comparison.warnings) - MAX_WARNINGS) > 0:
        yield f"note: and {counted(more, 'more such difference')}"
    yield from _table(comparison.points)
    for change in (*comparison.engines, *([comparison.overall] if comparison.overall else [])):
        yield f"{change.name} ({counted(change.settings, 'setting')}): {_change(change)}"
    for name, problem in comparison.broken.items():
        yield f"no longer runs: {name}: {problem}"
    for when, names in (("before", comparison.only_old), ("now", comparison.only_new)):
        for name in names:
            yield f"measured only {when}: {name}"
    if unknown := sum(not change.decidable for change in comparison.points):
        yield (
            f"{unknown} of {counted(len(comparison.points), 'setting')} "
            f"{'has' if unknown == 1 else 'have'} too few samples to tell a change "
            f"in one of them from chance; {comparison.enough} of each, both times, would do"
        )
    yield _verdict(comparison)


def _table(points: Sequence[Change]) -> Iterator[str]:
    if points:
        yield "images/s of each setting:"
    for change in points:
        yield (
            f"  {change.name}: {change.old_rate:,.0f}, now {change.new_rate:,.0f}: "
            f"{_change(change)}"
        )


def _change(change: Change) -> str:
    text = f"{change.change:+.1%}, {_VERDICTS[change.verdict]}"
    if change.verdict != "same":
        return text
    if abs(change.change) > change.noise:  # but the best samples do not differ by that much
        return f"{text} (the best samples differ by {change.sure:+.1%})"
    return f"{text} (up to {change.noise:.0%})"


def _verdict(comparison: Comparison) -> str:
    limit = f"{comparison.fail_over * 100:g}%"
    if slower := sorted(comparison.slower, key=lambda change: change.sure):
        named = ", ".join(f"{change.name} ({change.change:+.1%})" for change in slower[:_MAX_NAMED])
        more = len(slower) - _MAX_NAMED
        others = f" and {more} more" if more > 0 else ""
        return f"verdict: slower by more than {limit}: {named}{others}"
    if comparison.broken:
        broken = counted(len(comparison.broken), "setting no longer runs", "settings no longer run")
        return f"verdict: {broken}"
    rest = {
        "slower": f"something got slower beyond the noise, nothing by more than {limit}",
        "faster": "something got faster beyond the noise, nothing slower",
        "mixed": f"some faster, some slower beyond the noise, nothing slower by more than {limit}",
        "same": "no difference beyond the noise",
        "unknown": "too few samples to tell any difference from chance; measure more of them",
    }
    return f"verdict: {rest[comparison.verdict]}"
