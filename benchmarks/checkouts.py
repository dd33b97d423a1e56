"""Running two checkouts of batchdigit side by side, by the Python that runs this."""

import os
import subprocess
import sys
from pathlib import Path


def in_checkout(checkout: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS`` with the batchdigit of ``checkout``, whatever is installed."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def batchdigit(checkout: Path, *arguments: object, codes: tuple[int, ...] = (0,)) -> None:
    """``batchdigit ARGUMENTS`` of ``checkout``; ends this program for other exit codes."""
    done = in_checkout(checkout, "-m", "batchdigit", *arguments)
    if done.returncode not in codes:
        sys.exit(f"{checkout}: batchdigit {' '.join(map(str, arguments))}:\n{done.stderr}")
