"""``batchdigit doctor`` as a user calls it, on machines that lack something, and check by check."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchdigit import Job
from batchdigit.doctor.checking import findings_of
from batchdigit.doctor.examination import CHECKS
from batchdigit.doctor.findings import OK, Finding
from tests.support.samples import REPOSITORY, SAMPLES, Program


def examined(program: Program, *arguments: str | Path, **options: Any) -> tuple[int, list[Finding]]:
    """The exit code and the findings of the command, from its JSON."""
    return _parsed(program("doctor", "--json", *arguments, **options))


def examined_without_gpu(
    folder: Path, *arguments: str, **modules: str
) -> tuple[int, list[Finding]]:
    """The same on a machine without a GPU, where importing one of ``modules`` runs its code."""
    broken = folder / "broken"
    broken.mkdir(exist_ok=True)
    for name, code in modules.items():
        (broken / f"{name}.py").write_text(code)
    program = (
        "import pathlib\n"
        "from batchdigit.cli import app as cli\n"
        "from batchdigit.system import machine\n"
        "machine.GPU_DEVICES = (pathlib.Path('none'),)\n"
        "cli.main()"
    )
    path = os.pathsep.join([str(broken), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor", "--json", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    return _parsed(done)


def _parsed(done: subprocess.CompletedProcess[str]) -> tuple[int, list[Finding]]:
    assert done.stderr == ""
    return done.returncode, [Finding(**check) for check in json.loads(done.stdout)["checks"]]


def faults_of(findings: list[Finding]) -> dict[str, Finding]:
    """All findings that are not OK, by check; the last one of each check."""
    return {finding.name: finding for finding in findings if finding.status != OK}


def check(name: str, *source: Path, **options: Any) -> list[Finding]:
    """What one check finds when it is called from this process."""
    return findings_of(name, CHECKS[name], Job(source or (SAMPLES,), **options), {})


def interrupt(monkeypatch: pytest.MonkeyPatch, where: Any, call: str) -> None:
    """Send SIGTERM once, right after a function or method has done its work."""
    complete = getattr(where, call)

    def complete_and_signal(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(where, call, complete)
        result = complete(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(where, call, complete_and_signal)
