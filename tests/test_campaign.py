"""The campaign's short form. The long one: ``python -m tests.support.campaign FOLDER``."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.platforms import needs_linux
from tests.support.samples import REPOSITORY


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_linux("/proc")
def test_no_fault_makes_a_report_wrong(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.campaign", tmp_path / "work",
         "--scale", "0.02", "--images", "400"],
        check=False, capture_output=True, text=True, cwd=REPOSITORY, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert len(lines) == 21, done.stdout
    for line in lines[1:-1]:
        injected, fired, _, wrong, lost, left = map(int, line[50:].split())
        assert injected == fired > 0, line
        assert wrong == lost == left == 0, line
    assert int(lines[-1][50:].split()[2]) > 0, "nothing was ever resumed"
