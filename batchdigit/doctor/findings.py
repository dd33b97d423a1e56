"""What a check finds, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchdigit.errors import one_line
from batchdigit.system.words import counted

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MAX_LINE = 2_000  # characters
_NAME_WIDTH = len("shared memory")  # the longest; a line is shown before later names are known


@dataclass(frozen=True)
class Finding:
    """What the check ``name`` found.

    ``status`` is OK, WARNING for what stops no run but may surprise, or PROBLEM for what makes a
    run fail or its rows wrong. Warnings and problems have a ``remedy``.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


Earlier = Mapping[str, Finding]
"""What earlier checks found, by their names; the worst finding of each check."""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, OK, found)


def warning(name: str, found: str, remedy: str) -> Finding:
    """A run works, but perhaps not as expected."""
    return Finding(name, WARNING, found, _of_a_run(remedy))


def problem(name: str, found: str, remedy: str) -> Finding:
    """A run would fail because of this, or write wrong rows."""
    return Finding(name, PROBLEM, found, _of_a_run(remedy))


def _of_a_run(remedy: str) -> str:
    """A remedy whose options are those of a run: most are none of this command's."""
    return re.sub(r"\badd (?=--)", "run with ", remedy)


def count(findings: Sequence[Finding], status: str) -> int:
    """How many findings have that status."""
    return sum(finding.status == status for finding in findings)


def finding_line(finding: Finding) -> str:
    """Status, name, and what was found with its remedy, in columns."""
    text = "; ".join(part for part in (finding.found, finding.remedy) if part)
    # The names of files and the messages of libraries may hold anything.
    text = one_line(text, MAX_LINE)
    return f"{finding.status:<{len(PROBLEM)}}  {finding.name:<{_NAME_WIDTH}}  {text}"


def summary_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """One line: how many problems and warnings there are."""
    problems, warnings = count(findings, PROBLEM), count(findings, WARNING)
    text = counted(problems, "problem") if problems else "no problems"
    if warnings:
        text += f", {counted(warnings, 'warning')}"
    yield text


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """All findings as JSON data."""
    return {
        "checks": [asdict(finding) for finding in findings],
        "problems": count(findings, PROBLEM),
        "warnings": count(findings, WARNING),
    }
