"""What lies beside a report: every such name, spelled once.

==================  ==========================================================================
``OUT``             the report
``OUT.run.json``    the account of the run that made it
``.OUT.state``      what the report says of which files, for ``--update``
``.OUT.journal/``   what an unfinished run has done, and its half-written files
``.OUT.lock``       a name to lock, so that one run at a time writes ``OUT``
==================  ==========================================================================

Where ``OUT`` is a symbolic link, they lie beside the file that it leads to.
"""

from __future__ import annotations

import os
from pathlib import Path

STDOUT = Path("-")
"""The ``OUT`` that stands for standard output; nothing lies beside it."""

HALF_WRITTEN = ".batchdigit-*.tmp"
"""The pattern of the names of files that are being written."""


def account_path(out: Path) -> Path:
    """Where the account of the run that made the report ``out`` lies."""
    return beside(out, "{}.run.json")


def state_path(out: Path) -> Path:
    """Where the state of the report ``out`` lies."""
    return beside(out, ".{}.state")


def journal_path(out: Path) -> Path:
    """Where the journal of a run that writes ``out`` lies: a folder."""
    return beside(out, ".{}.journal")


def lock_path(out: Path) -> Path:
    """What a run that writes ``out`` locks."""
    return beside(out, ".{}.lock")


def beside(out: Path, pattern: str) -> Path:
    """What lies beside the file that ``out`` is or links to; ``pattern`` has {} for its name."""
    target = Path(os.path.realpath(out))
    return target.with_name(pattern.format(target.name))
