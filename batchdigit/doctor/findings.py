"""What a check finds, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchdigit.errors import one_line

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MAX_LINE = 2_000
_NAME_WIDTH = len("shared memory")  # lines are printed before the names that follow are known


@dataclass(frozen=True)
class Finding:
    """What the check ``name`` found.

    ``status`` is OK; WARNING for what may surprise, but stops no run; or PROBLEM. The latter two
    come with a ``remedy``.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


Earlier = Mapping[str, Finding]
"""What earlier checks found, by their names; the worst where one found several things."""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, OK, found)


def warning(name: str, found: str, remedy: str) -> Finding:
    """A run works, though not as somebody may expect."""
    return Finding(name, WARNING, found, remedy)


def problem(name: str, found: str, remedy: str) -> Finding:
    """A run fails of this, or would give wrong rows."""
    return Finding(name, PROBLEM, found, remedy)


def count(findings: Sequence[Finding], status: str) -> int:
    """How many have that status."""
    return sum(finding.status == status for finding in findings)


def finding_line(finding: Finding) -> str:
    """Status, name, what was found and the remedy, in columns."""
    text = "; ".join(part for part in (finding.found, finding.remedy) if part)
    # Names of files, and messages of libraries, may hold anything.
    text = one_line(text, MAX_LINE)
    return f"{finding.status:<{len(PROBLEM)}}  {finding.name:<{_NAME_WIDTH}}  {text}"


def summary_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """How many problems and warnings there are."""
    problems, warnings = count(findings, PROBLEM), count(findings, WARNING)
    text = f"{problems or 'no'} problem{'s' * (problems != 1)}"
    if warnings:
        text += f", {warnings} warning{'s' * (warnings != 1)}"
    yield text


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything as JSON data."""
    return {
        "checks": [asdict(finding) for finding in findings],
        "problems": count(findings, PROBLEM),
        "warnings": count(findings, WARNING),
    }
