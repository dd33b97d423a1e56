import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measuring.engine import (
    Engine,
    run_command,
    running,
    seconds_of_command,
)
from batchdigit.errors import BatchdigitError, CheckpointError, DeviceError
from batchdigit.job import PACKAGED_WEIGHTS, Job
from batchdigit.sources.folder import open_folders
from tests.support.measurements import GPU, ONNX
from tests.support.platforms import needs_linux
from tests.support.samples import SAMPLES

JOB = BenchJob(source=(SAMPLES,))


def process_and_parent(_job: Job) -> tuple[int, int]:
    return os.getpid(), os.getppid()


def die(_job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(_job: Job) -> None:
    raise CheckpointError("a model that is none", "take another")


@needs_linux("engines are forked")
def test_each_probe_on_a_cpu_has_a_fork_of_its_own(tmp_path: Path) -> None:
    with Engine(JOB, ONNX, tmp_path) as engine:
        (first, parent), (second, same) = (engine.ask(process_and_parent, ONNX) for _ in range(2))
        assert first != second
        assert parent == same != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(parent, 0)


def test_gpu_stays_in_use_by_one_process(tmp_path: Path) -> None:
    with Engine(JOB, GPU, tmp_path) as engine:
        (first, parent), (second, _) = (engine.ask(process_and_parent, GPU) for _ in range(2))
        assert first == second
        assert parent == os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@needs_linux("engines are forked")
def test_stopped_benchmark_leaves_no_process_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Engine(JOB, ONNX, tmp_path) as engine:
        _, parent = engine.ask(process_and_parent, ONNX)
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(parent, 0)


def want_a_device(_job: Job) -> None:
    raise DeviceError("--device cuda is not here", "choose --device cpu, not --device-name")


def test_engine_names_the_options_of_bench(tmp_path: Path) -> None:
    with (
        Engine(JOB, ONNX, tmp_path) as engine,
        pytest.raises(DeviceError, match="^--devices cuda is not here; ") as caught,
    ):
        engine.ask(want_a_device, ONNX)
    assert caught.value.remedy == "choose --devices cpu, not --device-name"


def test_engine_says_what_went_wrong(tmp_path: Path) -> None:
    with Engine(JOB, ONNX, tmp_path) as engine:
        with pytest.raises(CheckpointError, match="a model that is none"):
            engine.ask(refuse, ONNX)
        with pytest.raises(BatchdigitError, match="onnxruntime on cpu in fp32 has died"):
            engine.ask(die, ONNX)


def test_name_that_a_terminal_would_obey_is_spelled_out() -> None:
    name = os.fsdecode(b"a\xff\x1b[31m'\n\\ \xc3\xa9")
    command = run_command(BenchJob(source=(Path(name),)), ONNX)
    assert command.isprintable()
    words = subprocess.run(
        ["bash", "-c", f"printf '%s' {command.split(' run ')[1].split(' --out')[0]}"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert words == os.fsencode(name)


def test_command_line_can_be_pasted(tmp_path: Path) -> None:
    job = BenchJob(source=(tmp_path / "my images",), model=tmp_path / "CNN.pt", preprocess="exact")
    assert run_command(job, replace(ONNX, workers=2)) == (
        f"batchdigit run '{tmp_path}/my images' --out preds.csv --backend onnxruntime --device cpu "
        f"--precision fp32 --workers 2 --model {tmp_path}/CNN.pt --preprocess exact"
    )


def test_running_engines_write_reports_into_a_folder_that_is_removed() -> None:
    files = open_folders([SAMPLES])
    with running(JOB, {ONNX.engine: ONNX}) as engines:
        folder = engines[ONNX.engine]._folder
        sample = engines[ONNX.engine].sample(ONNX, files, 0.0)
        assert (folder / "preds.csv").exists()
    assert sample.images == 100
    assert not folder.exists()


def test_command_is_timed_over_the_images_of_a_folder(tmp_path: Path) -> None:
    assert seconds_of_command(JOB, replace(ONNX, workers=0), SAMPLES) > 0
    with pytest.raises(BatchdigitError, match="no images"):
        seconds_of_command(JOB, replace(ONNX, workers=0), tmp_path)


def test_command_that_fails_without_a_message_is_named_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = subprocess.CompletedProcess([], 9, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_arguments, **_options: silent)
    with pytest.raises(BatchdigitError, match="the command ended with 9"):
        seconds_of_command(JOB, ONNX, tmp_path)


def test_model_is_found_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes that measure are elsewhere."""
    shutil.copy(PACKAGED_WEIGHTS, tmp_path / "CNN.pt")
    monkeypatch.chdir(tmp_path)
    job = replace(JOB, model=Path("CNN.pt"))
    with running(job, {ONNX.engine: ONNX}) as engines:
        assert engines[ONNX.engine].sample(ONNX, open_folders([SAMPLES]), 0.0).images == 100
    assert seconds_of_command(job, replace(ONNX, workers=0), SAMPLES) > 0
    assert "--model CNN.pt" in run_command(job, ONNX)
