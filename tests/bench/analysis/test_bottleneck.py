import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchdigit.backends import onnx_backend
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.bench.analysis.bottleneck import bottleneck, median_sample, occupants, own_stages
from batchdigit.bench.measurement import Point, Setting
from batchdigit.bench.measuring.probes import timed_run
from batchdigit.job import Job
from batchdigit.reading import dataset
from batchdigit.reports.writer import ReportWriter
from batchdigit.resume.journal import Journal
from batchdigit.sources import folder
from batchdigit.sources.folder import FolderSource
from tests.support.measurements import GPU, ONNX, TORCH, point, sample
from tests.support.samples import SAMPLES, files_in

MANY_CORES = 1000  # so that there are always cores to spare


@pytest.fixture
def files(sample_paths: list[Path]) -> FolderSource:
    names = [path.name.encode() for path in sample_paths for _ in range(6)]
    return files_in(SAMPLES, names)


def slow_down(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, seconds: float) -> None:
    """Make a function take ``seconds`` longer."""
    function: Callable[..., Any] = getattr(owner, name)

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, slow)


def measured(setting: Setting, files: FolderSource) -> Point:
    job = Job(
        source=(SAMPLES,),
        backend=setting.backend,
        device="cpu",
        batch_size=64,
        workers=setting.workers,
        start_method="fork",  # which inherits what was slowed down
        fresh=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        return point(setting, samples=(timed_run(job, files, Path(folder), 0.0),))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("engine", [TORCH, ONNX])
def test_stages_add_up_to_the_wall_time(engine: Setting, workers: int, files: FolderSource) -> None:
    one = measured(replace(engine, workers=workers), files).samples[0]
    stages = [seconds for name, seconds in one.seconds.items() if name != "total"]
    assert sum(stages) == pytest.approx(one.seconds["total"], rel=0.05)
    assert sum(own_stages(one).values()) == pytest.approx(one.span)
    assert one.images == len(files)
    assert {"read", "decode", "fit", "network"} <= one.busy.keys()


class Function(NamedTuple):
    """Where a stage can be slowed down."""

    owner: Any
    name: str
    seconds: float


FUNCTIONS = {
    # for each file
    "read": Function(folder, "read_file", 0.002),
    "decode": Function(dataset, "decode_plain_png", 0.002),
    # for each batch
    "fit": Function(dataset, "look_like_mnist", 0.2),
    "journal": Function(Journal, "_is_due", 0.2),
    "write": Function(ReportWriter, "write", 0.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stage", FUNCTIONS)
def test_slowed_stage_is_the_bottleneck(
    stage: str, workers: int, files: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = FUNCTIONS[stage]
    slow_down(monkeypatch, function.owner, function.name, function.seconds)
    found = bottleneck(measured(replace(ONNX, workers=workers), files), MANY_CORES)
    assert found.stage == stage


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "owner", "name"),
    [(ONNX, onnx_backend, "softmax"), (TORCH, Predictor, "_top_k_of_part")],
)
def test_slowed_network_is_the_bottleneck(
    engine: Setting, owner: Any, name: str, files: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    if owner is Predictor:  # within the stage, not before it
        function = Predictor._top_k_of_part

        def slow(self: Predictor, images: Any, laps: Any) -> Any:
            result = function(self, images, laps)
            time.sleep(0.2)
            return result

        monkeypatch.setattr(owner, name, slow)
    else:
        slow_down(monkeypatch, owner, name, 0.2)
    found = bottleneck(measured(replace(engine, workers=1), files), MANY_CORES)
    assert found.stage == "network"
    assert "more cores, or a GPU" in found.words


def test_cores_that_are_always_busy_are_pointed_out() -> None:
    busy = point(TORCH, samples=(sample(cpu_seconds=1.98),))  # of one second, on two cores
    found = bottleneck(busy, cores=2)
    assert found.stage == "network"
    assert "all 2 cores are busy 99% of the time" in found.words
    assert "all" not in bottleneck(busy, cores=4).words


def test_spinning_decoder_is_named_though_the_network_waits_for_cores_too() -> None:
    work = {"read": 0.1, "decode": 1.1, "fit": 0.1, "network": 0.6}
    one = sample(cpu_seconds=1.9, busy=work)
    assert bottleneck(point(TORCH, samples=(one,)), cores=2).stage == "decode"


def test_gpu_that_waits_for_readers_is_said_to_wait() -> None:
    busy = {"read": 0.1, "decode": 1.5, "fit": 0.3, "transfer": 0.01, "network": 0.05}
    one = sample(40_000.0, images=40_000, busy=busy, workers=2, threads=8, cpu_seconds=2.2)
    found = bottleneck(
        point(GPU, samples=(one,), network_rates=(600_000.0,), reading_rates=(41_000.0,)), cores=16
    )
    assert found.stage == "decode"
    assert found.words.startswith("decoding: 2 workers busy ")
    assert "they could feed 41,000 images/s, and the network could take 600,000" in found.words
    assert "not a faster device" in found.words


def test_slow_storage_is_named() -> None:
    busy = {"read": 0.95, "decode": 0.02, "fit": 0.01, "network": 0.1}
    one = sample(busy=busy, workers=1, cpu_seconds=0.2)
    assert "faster storage" in bottleneck(point(TORCH, samples=(one,)), cores=2).words


def test_listing_is_a_stage_that_can_be_the_bottleneck() -> None:
    one = sample()
    seconds = {**one.seconds, "list": 5.0, "total": one.seconds["total"] + 5.0}
    slow = point(ONNX, samples=(replace(one, seconds=seconds),))
    assert bottleneck(slow, MANY_CORES).stage == "list"


def test_nothing_is_busy_for_more_than_all_of_the_time() -> None:
    one = sample(busy={"read": 9.0, "decode": 9.0, "fit": 9.0, "network": 9.0})
    assert [occupant.share for occupant in occupants(one)][:2] == [1.0, 1.0]


def test_median_sample_is_one_of_them() -> None:
    assert median_sample(point(TORCH, (3.0, 1.0, 2.0))).rate == pytest.approx(2.0)
    assert median_sample(point(TORCH, (1.0, 2.0))).rate == pytest.approx(1.0)


def test_own_stages_add_up_to_the_span() -> None:
    one = sample(seconds={"load": 0.1, "read": 0.2, "write": 0.3, "total": 1.0})
    assert own_stages(one) == pytest.approx(
        {"list": 0, "read": 0.2, "save": 0, "predict": 0, "journal": 0, "write": 0.3, "other": 0.4}
    )


def test_main_thread_reads_where_there_are_no_workers() -> None:
    one = sample(workers=0, busy={"read": 0.3, "decode": 0.2, "fit": 0.1, "network": 0.1})
    found = {occupant.who: occupant for occupant in occupants(one)}
    assert found.keys() == {"network", "main"}
    assert found["main"].stage == "read"
    # Of one second: 0.6 for reading, 0.05 for journal and report, and 0.01 in no stage.
    assert found["main"].share == pytest.approx(0.66)
    assert found["main"].rate == pytest.approx(1000 / 0.66)
