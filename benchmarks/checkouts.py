"""Running two checkouts of batchdigit side by side, with the Python that runs this."""

import os
import subprocess
import sys
from pathlib import Path


def in_checkout(checkout: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` with the batchdigit of ``checkout``, whatever is installed."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def batchdigit(checkout: Path, *arguments: object, codes: tuple[int, ...] = (0,)) -> None:
    """Run ``batchdigit ARGUMENTS`` of ``checkout``; other exit codes end this program."""
    done = in_checkout(checkout, "-m", "batchdigit", *arguments)
    if done.returncode not in codes:
        sys.exit(f"{checkout}: batchdigit {' '.join(map(str, arguments))}:\n{done.stderr}")
