"""The command as a whole: all checks, one after the other."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchdigit import Job
from batchdigit.doctor import examination
from batchdigit.doctor.examination import CHECKS, examine
from batchdigit.doctor.findings import PROBLEM, Finding, ok
from tests.support.doctor import examined
from tests.support.processes import line_with
from tests.support.samples import SAMPLES, Program


def test_all_is_well_here_and_nothing_stays_behind(
    program: Program, digits: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = program("doctor", digits, "-o", "preds.csv", env=os.environ | {"TMPDIR": str(temporary)})
    assert (done.returncode, done.stderr) == (0, "")
    *lines, summary = done.stdout.splitlines()
    assert summary.startswith("no problems")
    statuses = {line[9:24].strip(): line[:9].strip() for line in lines}
    # Nobody doubts how the packaged model reads the packaged digits.
    assert set(statuses) >= CHECKS.keys() - {"known digits"}
    for name in ("python", "packages", "onnxruntime", "torch", "decoder", "model", "output"):
        assert statuses[name] == "ok", done.stdout
    assert "10 of 10 packaged digits right" in lines[-2]
    assert next(line for line in lines if " source " in line).endswith(" 10 images")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "tmp"]
    assert not any(temporary.glob("batchdigit-*"))  # ONNX Runtime leaves a file of its own


def test_json_holds_the_same_findings_as_the_text(program: Program) -> None:
    text = program("doctor", "--model", "none.pt")
    data = program("doctor", "--model", "none.pt", "--json")
    assert text.returncode == data.returncode == 1
    found = json.loads(data.stdout)
    assert set(found) == {"checks", "problems", "warnings"}
    *lines, summary = text.stdout.splitlines()
    assert [line[:24].rstrip() for line in lines] == [
        f"{check['status']:<9}{check['name']}" for check in found["checks"]
    ]
    problems = [check for check in found["checks"] if check["status"] == "problem"]
    assert [check["name"] for check in problems] == ["model"]
    assert found["problems"] == 1
    assert summary == f"1 problem, {found['warnings']} warning" + "s" * (found["warnings"] != 1)
    for finding in found["checks"]:
        assert bool(finding["remedy"]) == (finding["status"] != "ok")


def test_source_is_looked_at_only_where_one_is_given(program: Program) -> None:
    _, findings = examined(program)
    assert "source" not in {finding.name for finding in findings}


def test_checks_after_one_that_fails_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_job: Job, _earlier: object) -> list[Finding]:
        raise ZeroDivisionError("by nothing")

    def look(_job: Job, earlier: dict[str, Finding]) -> list[Finding]:
        return [ok("after", earlier["before"].status)]

    monkeypatch.setattr(examination, "CHECKS", {"before": fail, "after": look})
    before, after = examine(Job((SAMPLES,)), with_source=False)
    assert (before.name, before.status) == ("before", PROBLEM)
    assert after == ok("after", PROBLEM)


def test_signal_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "batchdigit", "doctor"],
        cwd=tmp_path, env=os.environ | {"TMPDIR": str(temporary)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    line_with(" cache ", process)  # worker processes are about to be tried
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said == "batchdigit: stopped by SIGTERM; nothing was changed\n"
    assert list(tmp_path.iterdir()) == [temporary]
    assert not any(temporary.glob("batchdigit-*"))


@pytest.mark.parametrize("arguments", [["-o", "preds.xls"], [""], ["--nonsense"]])
def test_wrong_usage_is_2(program: Program, arguments: list[str]) -> None:
    done = program("doctor", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
