import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import batchdigit
from batchdigit.bench.job import BenchJob
from batchdigit.bench.measuring.engine import (
    Engine,
    run_command,
    run_job,
    running,
    seconds_of_command,
)
from batchdigit.cli.model_options import Which, with_model_options
from batchdigit.errors import BatchdigitError, CheckpointError, DeviceError
from batchdigit.job import PACKAGED_WEIGHTS, Job
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.sources.folder import open_folders
from tests.support import own_code
from tests.support.measurements import GPU, ONNX, TORCH
from tests.support.platforms import needs_linux
from tests.support.samples import REPOSITORY, SAMPLES

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


def test_command_line_names_the_network_and_all_that_is_declared() -> None:
    declaration = Declaration(
        size=(40, 32),
        channels=3,
        range="0-255",
        mean=(1.0, 2.0, 3.0),
        std=(-4.0,),
        expects="dark-on-light",
        layout="nhwc",
        transpose=True,
        place="pad",
        scores="log-probabilities",
    )
    job = BenchJob(
        source=(Path("images"),),
        model=Path("my net.pt"),
        class_name="Net",
        key="ema.model",
        network="my net.py:Net",
        network_args={"act": "it's", "classes": 10},
        declaration=declaration,
        preprocess="exact",
    )
    words = shlex.split(run_command(job, TORCH).replace(" ".join(TORCH.options), ""))
    taken: list[Job] = []
    program = typer.Typer()

    @program.command()
    @with_model_options()
    def run(which: Which, source: list[str], out: str = "", preprocess: str = "") -> None:
        taken.append(Job(source, out, preprocess=preprocess, **which.keywords()))

    # The words are read as the command itself reads them.
    done = CliRunner().invoke(program, words[2:])
    assert done.exit_code == 0, done.output
    asked = replace(
        run_job(job, TORCH), out=taken[0].out, backend="auto", device="auto", fresh=False,
        model_check=True,
    )  # fmt: skip
    assert asdict(taken[0]) == asdict(asked)


def net_of(folder: Path) -> BenchJob:
    own_code.script(folder)
    return BenchJob(
        source=(SAMPLES,),
        model=Path("net.pt"),
        network="net.py:Net",
        network_args={"sign": 1},
        declaration=Declaration(mean=(0.1,), std=(0.9,)),
        preprocess="exact",
    )


@pytest.mark.parametrize("network", ["net.py:Net", "net:Net", "net.py:talkative"])
def test_network_is_found_from_where_the_user_is_and_its_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    job = replace(net_of(tmp_path), network=network)
    if network.endswith("talkative"):
        job = replace(job, network_args=None)
    monkeypatch.chdir(tmp_path)
    with running(job, {TORCH.engine: TORCH}) as engines:
        assert engines[TORCH.engine].sample(TORCH, open_folders([SAMPLES]), 0.0).images == 100
    command = run_command(job, replace(TORCH, workers=0)).replace("preds.csv", "out.csv")
    here = f"{shlex.quote(sys.executable)} -m batchdigit run "
    done = subprocess.run(
        ["bash", "-c", command.replace("batchdigit run ", here)],
        check=False, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    account = json.loads((tmp_path / "out.csv.run.json").read_text())
    assert (account["model"]["network"], account["model"]["mean"]) == (network, [0.1])
    assert seconds_of_command(job, replace(TORCH, workers=0), SAMPLES) > 0


def test_onnx_file_of_a_model_toml_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = net_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    batchdigit.convert_model("net.pt", "net.onnx", network="net.py:Net")
    (tmp_path / "model.toml").write_text('weights = "net.onnx"\n')
    job = replace(job, model=Path("model.toml"), network=None, network_args=None)
    job = replace(job, declaration=Declaration())
    with running(job, {ONNX.engine: ONNX}) as engines:
        assert engines[ONNX.engine].sample(ONNX, open_folders([SAMPLES]), 0.0).images == 100
    assert seconds_of_command(job, replace(ONNX, workers=0), SAMPLES) > 0
