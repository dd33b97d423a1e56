"""What lies beside a report: every such name, spelled once.

==================  ==========================================================================
``OUT``             the report
``OUT.run.json``    the account of the run that made it
``.OUT.state``      which files the report is about, and what it says of them, for ``--update``
``.OUT.journal/``   what an unfinished run has done, and its half-written files
``.OUT.lock``       a file to lock, so that one run at a time writes ``OUT``
==================  ==========================================================================

If ``OUT`` is a symbolic link, they lie beside the file that it leads to.
"""

from __future__ import annotations

import os
from pathlib import Path

STDOUT = Path("-")
"""The ``OUT`` that stands for standard output; nothing lies beside it."""

HALF_WRITTEN = ".batchdigit-*.tmp"
"""The pattern that matches the names of files while they are being written."""

MAX_ACCOUNT = 16 << 20
"""The bytes of the largest account that is read."""


def account_path(out: Path) -> Path:
    """The path of the account of the run that made the report ``out``."""
    return beside(out, "{}.run.json")


def state_path(out: Path) -> Path:
    """The path of the state of the report ``out``."""
    return beside(out, ".{}.state")


def journal_path(out: Path) -> Path:
    """The path of the folder with the journal of a run that writes ``out``."""
    return beside(out, ".{}.journal")


def lock_path(out: Path) -> Path:
    """The path of the file that a run that writes ``out`` locks."""
    return beside(out, ".{}.lock")


def own_paths(out: Path) -> dict[Path, str]:
    """What lies beside the report ``out``, each with what it is, in words."""
    return {
        account_path(out): "the account of the run",
        state_path(out): "the state of the report",
        journal_path(out): "the journal of the run",
        lock_path(out): "the lock of the report",
    }


def beside(out: Path, pattern: str) -> Path:
    """A path beside the file that ``out`` is or links to; {} in ``pattern`` becomes its name."""
    target = Path(os.path.realpath(out))
    return target.with_name(pattern.format(target.name))
