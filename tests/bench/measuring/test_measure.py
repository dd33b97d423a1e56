import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Measurement
from batchdigit.bench.measuring import rounds
from batchdigit.bench.measuring.engine import Engine, run_command
from batchdigit.bench.measuring.images import digits_in_a_folder, evenly, links_to
from batchdigit.bench.measuring.measure import measure
from batchdigit.bench.measuring.probes import network_rate, reading_rate, warm_up
from batchdigit.errors import BatchdigitError, CheckpointError, SourceError
from batchdigit.job import Job
from batchdigit.sources.filelist import FileList
from batchdigit.sources.folder import open_folders
from tests.support.measurements import GPU, ONNX, TORCH
from tests.support.oracle import SeedRow
from tests.support.samples import SAMPLES

JOB = BenchJob(source=(SAMPLES,))


@pytest.fixture(scope="module")
def measured() -> Measurement:
    """Both backends, over the samples and a file that is no image."""
    return measure(replace(JOB, seconds=6, precisions=("fp32",), workers=(1, 0)))


@pytest.fixture
def files() -> FileList:
    return open_folders([SAMPLES])


def test_every_setting_is_measured_or_says_why_not(measured: Measurement) -> None:
    assert len(measured.points) == 8
    for point in measured.points:
        assert bool(point.samples) != bool(point.problem)
    firsts = [point for point in measured.points if point.setting.options[6:] == ["--workers", "1"]]
    for point in firsts:
        assert point.samples
        assert {sample.workers for sample in point.samples} == {1}
        assert point.rate > 0


def test_parity_comes_with_every_speed(measured: Measurement) -> None:
    for point in measured.points:
        assert point.parity is not None
        assert point.parity.reference == TORCH.engine
        assert (point.parity.images, point.parity.flips) == (100, 0)
        assert point.parity.difference < 1e-5


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


def test_machine_versions_and_model_are_told(measured: Measurement) -> None:
    assert {"batchdigit", "torch", "onnxruntime", "numpy"} <= measured.versions.keys()
    assert len(measured.model["sha256"]) == 64
    assert measured.machine["devices"] == ["cpu"]
    assert measured.source["images"] == 100
    assert Measurement.from_json(measured.as_json()) == measured


def test_outcomes_are_those_of_the_plain_loop(seed_rows: list[SeedRow], files: FileList) -> None:
    outcomes = warm_up(Job((SAMPLES,), backend="onnxruntime"), files)
    assert outcomes.labels.tolist() == [seed.prediction for seed in seed_rows]
    assert outcomes.probs == pytest.approx([max(seed.probs) for seed in seed_rows], abs=1e-4)


def test_image_that_cannot_be_read_counts_as_an_outcome(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    outcomes = warm_up(Job((tmp_path,)), open_folders([tmp_path]))
    assert outcomes.labels.tolist() == [-1]


def test_folder_without_a_usable_image_can_be_measured(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    files = evenly(open_folders([tmp_path]), 10)
    job = Job((tmp_path,), backend="onnxruntime", batch_size=4, workers=1)
    assert network_rate(job, files, 0.05) > 1
    rate = reading_rate(job, evenly(files, 100), 0.05)
    assert rate is not None
    assert rate > 1
    assert reading_rate(job, files, 0.05) is None  # of three batches nothing can be said


def test_folder_of_error_rows_is_not_a_fast_one(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match="all 1 images that were tried are error rows"):
        measure(BenchJob(source=(tmp_path,), backends=("onnxruntime",)))


def test_images_are_spread_evenly_and_repeated_if_need_be() -> None:
    files = FileList([b"a", b"b", b"c", b"d"])
    assert list(evenly(files, 2)) == [b"a", b"c"]
    assert list(evenly(files, 4)) == [b"a", b"b", b"c", b"d"]
    assert list(evenly(files, 8)) == [b"a", b"a", b"b", b"b", b"c", b"c", b"d", b"d"]


def test_links_lead_to_the_files(files: FileList) -> None:
    with links_to(evenly(files, 300)) as folder:
        found = open_folders([folder], follow_symlinks=True).images
        assert len(found) == 300
        assert os.path.samefile(found.path(3), files.path(1))
    assert not folder.exists()


def test_packaged_digits_are_what_is_measured_without_a_source() -> None:
    with digits_in_a_folder() as folder:
        assert len(open_folders([folder])) == 1000


def process_and_parent(_job: Job) -> tuple[int, int]:
    return os.getpid(), os.getppid()


def die(_job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(_job: Job) -> None:
    raise CheckpointError("a model that is none", "take another")


def test_each_probe_on_a_cpu_has_a_fork_of_its_own() -> None:
    with Engine(JOB, ONNX) as engine:
        (first, parent), (second, same) = (engine.ask(process_and_parent, ONNX) for _ in range(2))
        assert first != second
        assert parent == same != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(parent, 0)


def test_gpu_stays_in_use_by_one_process() -> None:
    with Engine(JOB, GPU) as engine:
        (first, parent), (second, _) = (engine.ask(process_and_parent, GPU) for _ in range(2))
        assert first == second
        assert parent == os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_stopped_benchmark_leaves_no_process_behind() -> None:
    with pytest.raises(KeyboardInterrupt), Engine(JOB, ONNX) as engine:
        _, parent = engine.ask(process_and_parent, ONNX)
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(parent, 0)


def test_engine_says_what_went_wrong() -> None:
    with Engine(JOB, ONNX) as engine:
        with pytest.raises(CheckpointError, match="a model that is none"):
            engine.ask(refuse, ONNX)
        with pytest.raises(BatchdigitError, match="onnxruntime on cpu in fp32 has died"):
            engine.ask(die, ONNX)


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


def test_what_nothing_can_be_measured_of_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        measure(replace(JOB, source=(tmp_path,)))
    model = tmp_path / "CNN.pt"
    model.write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"CNN\.pt"):
        measure(replace(JOB, model=model, backends=("onnxruntime",)))


def test_name_that_a_terminal_would_obey_is_spelled_out() -> None:
    name = os.fsdecode(b"a\xff\x1b[31m'\n\\ \xc3\xa9")
    command = run_command(BenchJob(source=(Path(name),)), ONNX)
    assert command.isprintable()
    words = subprocess.run(
        ["bash", "-c", f"printf '%s' {command.split(' run ')[1].split(' --out')[0]}"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert words == os.fsencode(name)


def test_one_size_that_takes_too_long_is_said() -> None:
    job = replace(JOB, seconds=5, backends=("onnxruntime",), batch_sizes=(100_000,), workers=(1,))
    (point,) = measure(job).points
    assert point.problem == "four such batches take too long; try smaller ones"


def test_failure_of_readers_alone_costs_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    ask = Engine.ask

    def fail(self: Engine, probe: object, setting: object, *arguments: object) -> object:
        if probe is reading_rate:
            raise BatchdigitError("no process left", "free some")
        return ask(self, probe, setting, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "ask", fail)
    job = replace(JOB, seconds=5, backends=("onnxruntime",), batch_sizes=(None,), workers=(1,))
    found = measure(job, say=said.append)
    assert len(said) == 1
    assert found.best is not None
    assert found.points[0].is_shown


def test_nothing_is_left_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "import sys; from batchdigit.cli.app import main; sys.argv[1:] = sys.argv[2:]; main()"
    bench = subprocess.Popen(
        [sys.executable, "-c", code, "", "bench", str(SAMPLES), "--backends", "onnxruntime", "-q"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("batchdigit-bench-*/.preds.csv.journal")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(bench.pid, signal.SIGINT)
    _, said = bench.communicate(timeout=30)
    assert bench.returncode == 130
    assert said == "batchdigit: stopped by SIGINT; nothing was written\n"
    assert not list(tmp_path.glob("batchdigit-*"))


def test_rounds_take_turns_and_begin_with_another_setting_each_time() -> None:
    settings = [replace(engine, workers=number) for engine in (TORCH, ONNX) for number in (0, 1)]
    order = rounds._rotated(settings, 0)
    assert [one.backend for one in order] == ["torch", "onnxruntime"] * 2
    assert rounds._rotated(settings, 1) == order[1:] + order[:1]
    assert rounds._rotated([], 3) == []


def test_command_line_can_be_pasted(tmp_path: Path) -> None:
    job = BenchJob(source=(tmp_path / "my images",), model=tmp_path / "CNN.pt", preprocess="exact")
    assert run_command(job, replace(ONNX, workers=2)) == (
        f"batchdigit run '{tmp_path}/my images' --out preds.csv --backend onnxruntime --device cpu "
        f"--precision fp32 --workers 2 --model {tmp_path}/CNN.pt --preprocess exact"
    )
