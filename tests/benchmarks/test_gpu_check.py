"""The check of a machine with a GPU, as far as it can be tried without one."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import _steps, run_steps
from tests.support.samples import REPOSITORY


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_steps_go_on_after_one_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"first": python("print('out'); raise SystemExit(3)"), "second": python("print('in')")}
    outcomes = run_steps(steps, tmp_path)
    assert [outcome["ended"] for outcome in outcomes.values()] == ["with exit code 3", "well"]
    assert (tmp_path / "first.txt").read_text() == "out\n"
    assert "first: with exit code 3" in capsys.readouterr().out


def test_step_is_stopped_when_the_time_is_over_and_the_next_one_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "MIN_SECONDS_OF_A_STEP", 0.5)
    steps = {"slow": python("import time; time.sleep(60)"), "late": python("print('in')")}
    outcomes = run_steps(steps, tmp_path, max_seconds=1.0)
    assert outcomes["slow"]["ended"] == "stopped: no time was left"
    assert outcomes["late"]["ended"] == "not begun: no time was left"
    assert not (tmp_path / "late.txt").exists()


def test_all_that_needs_a_gpu_is_looked_at(tmp_path: Path) -> None:
    arguments = argparse.Namespace(
        out=tmp_path, data=tmp_path, device="cuda", seconds=9.0, images=10
    )
    steps = _steps(arguments)
    assert set(steps) == {"doctor", "tests", "bench", "throughput", "parity"}
    assert "cpu,cuda" in steps["bench"]
    assert all("cuda" in steps[name] for name in ("throughput", "parity"))
    for command in steps.values():
        assert command[:2] == [sys.executable, "-m"]


def test_machine_without_a_gpu_is_told_so(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(tmp_path / "out")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "no CUDA device" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_steps_on_a_cpu_end_well(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu"),
            *("--out", str(tmp_path / "out"), "--seconds", "5", "--images", "100"),
        ],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {step["ended"] for step in summary["steps"].values()} == {"well"}
    assert "bench.html" in {path.name for path in (tmp_path / "out").iterdir()}
