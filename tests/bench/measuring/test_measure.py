"""Whole measurements. One that succeeds takes at least 5 seconds, the minimum of --seconds."""

import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Measurement
from batchdigit.bench.measuring.engine import Engine, run_command
from batchdigit.bench.measuring.measure import measure
from batchdigit.bench.store import measurement_from
from batchdigit.errors import BatchdigitError, CheckpointError, SourceError
from tests.support.measurements import ONNX, TORCH
from tests.support.samples import SAMPLES

JOB = BenchJob(source=(SAMPLES,))


@pytest.fixture(scope="module")
def measured() -> Measurement:
    """Both backends over the sample digits."""
    return measure(replace(JOB, seconds=6, precisions=("fp32",), workers=(1, 0)))


@pytest.mark.slow
def test_every_setting_is_measured_or_says_why_not(measured: Measurement) -> None:
    assert len(measured.points) == 8
    for point in measured.points:
        assert bool(point.samples) != bool(point.problem)
    firsts = [point for point in measured.points if point.setting.options[6:] == ["--workers", "1"]]
    for point in firsts:
        assert point.samples
        assert {sample.workers for sample in point.samples} == {1}
        assert point.rate > 0


@pytest.mark.slow
def test_parity_comes_with_every_speed(measured: Measurement) -> None:
    for point in measured.points:
        assert point.parity is not None
        assert point.parity.reference == TORCH.engine
        assert (point.parity.images, point.parity.flips) == (100, 0)
        assert point.parity.difference < 1e-5


@pytest.mark.slow
def test_network_readers_start_and_advised_command_are_measured_too(
    measured: Measurement,
) -> None:
    alone = [point for point in measured.points if point.network_rates]
    assert {point.setting.engine for point in alone} == {TORCH.engine, ONNX.engine}
    assert all(point.reading_rates for point in alone)
    for setting in (TORCH, ONNX):
        start = measured.start_of(setting)
        assert start is not None
        assert start > 0
    assert measured.best is not None
    assert measured.check is not None
    assert measured.check.command == run_command(JOB, measured.best)
    assert measured.check.seconds[0] > 0


@pytest.mark.slow
def test_machine_versions_and_model_are_told(measured: Measurement) -> None:
    assert {"batchdigit", "torch", "onnxruntime", "numpy"} <= measured.versions.keys()
    assert len(measured.model["sha256"]) == 64
    assert measured.machine["devices"] == ["cpu"]
    assert measured.source["images"] == 100
    assert measurement_from(measured.as_json()) == measured


@pytest.mark.slow
def test_engine_that_fails_does_not_keep_the_others_from_being_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    ask = Engine.ask

    def fail(self: Engine, probe: object, setting: object, *arguments: object) -> object:
        if "torch" in str(setting):
            raise BatchdigitError("no memory left", "free some")
        return ask(self, probe, setting, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "ask", fail)
    job = replace(JOB, seconds=5, precisions=("fp32",), batch_sizes=(None,), workers=(1,))
    found = measure(job, say=said.append)
    assert said == ["torch on cpu in fp32: no memory left; free some"]
    assert [point.problem for point in found.points] == ["no memory left; free some", None]
    assert found.points[1].samples
    assert found.points[1].parity is not None
    assert found.points[1].parity.reference == ONNX.engine


def test_source_or_model_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        measure(replace(JOB, source=(tmp_path,)))
    model = tmp_path / "CNN.pt"
    model.write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"CNN\.pt"):
        measure(replace(JOB, model=model, backends=("onnxruntime",)))


def test_folder_of_error_rows_is_not_a_fast_one(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match="every image that was tried is an error row"):
        measure(BenchJob(source=(tmp_path,), backends=("onnxruntime",)))


# Announces each run over images, so that the signal can be sent during one.
ANNOUNCING = """
from batchdigit.bench.measuring.engine import Engine
sample = Engine.sample
def announced(*arguments):
    print("a run begins", flush=True)
    return sample(*arguments)
Engine.sample = announced
from batchdigit.cli.app import main
main()
"""


def test_stopped_benchmark_leaves_nothing_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    options = ["bench", str(SAMPLES), "--backends", "onnxruntime", "-q"]
    bench = subprocess.Popen(
        [sys.executable, "-c", ANNOUNCING, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert bench.stdout is not None
    try:
        assert select.select([bench.stdout], [], [], 60)[0]
        assert bench.stdout.readline() == "a run begins\n"
        assert list(tmp_path.glob("batchdigit-bench-*"))
        os.killpg(bench.pid, signal.SIGINT)
        _, said = bench.communicate(timeout=30)
    finally:
        bench.kill()
    assert bench.returncode == 130
    assert said == "batchdigit: stopped by SIGINT; nothing was written\n"
    assert not list(tmp_path.glob("batchdigit-*"))
