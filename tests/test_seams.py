"""The seams for new sources, engines and image facts hold through a whole run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchdigit import Job, pipeline, run
from batchdigit.batches import FACTS, Batch, Fact
from batchdigit.errors import StoppedBySignal
from batchdigit.reading.dataset import DigitImages
from batchdigit.reading.reader import Reader
from batchdigit.resume import journal
from batchdigit.sources import find
from tests.support.fakes import DictSource, ReverseEngine, TapeSource
from tests.support.samples import REPOSITORY, SAMPLES, age

BACKENDS = ["onnxruntime", "torch"]


@pytest.fixture
def samples(sample_paths: list[Path]) -> dict[bytes, bytes]:
    """The sample digits in memory, and among them a file that is not an image."""
    images = {os.fsencode(path.name): path.read_bytes() for path in sample_paths}
    return images | {b"5-damaged.png": b"not an image", b"nested/a.png": images[b"0-label-0.png"]}


@pytest.fixture
def folder(tmp_path: Path, samples: dict[bytes, bytes]) -> Path:
    """The same images in a folder."""
    for name, data in samples.items():
        path = tmp_path / "folder" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        age(path)
    return tmp_path / "folder"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [DictSource, TapeSource])
def test_source_of_bytes_gives_the_report_of_a_folder(
    kind: type[DictSource],
    workers: int,
    backend: str,
    tmp_path: Path,
    folder: Path,
    samples: dict[bytes, bytes],
) -> None:
    def job(name: str) -> Job:
        return Job(
            (folder,), tmp_path / name, backend=backend, workers=workers, batch_size=10,
            device="cpu",
        )  # fmt: skip

    run(job("folder.csv"))
    summary = pipeline.run(job("memory.csv"), find=lambda _job: kind(samples))
    assert (summary.found, summary.failed) == (102, 1)
    assert (tmp_path / "memory.csv").read_bytes() == (tmp_path / "folder.csv").read_bytes()


def test_read_through_source_is_read_by_one_process_and_once(
    samples: dict[bytes, bytes],
) -> None:
    tape = TapeSource(samples)
    with Reader(DigitImages(tape), batch_size=7, workers=3) as reader:
        assert reader.workers == 1
        assert sum(len(batch) for batch in reader) == 101
    with Reader(DigitImages(tape), batch_size=7, workers=0) as reader:
        assert sum(len(batch) for batch in reader) == 101
    assert tape.rewinds == 0


def test_line_in_the_table_adds_a_kind_of_source(
    tmp_path: Path, samples: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = (lambda text: text.startswith("memory://"), lambda _job: DictSource(samples))
    monkeypatch.setattr(find, "KINDS", (memory, *find.KINDS))
    assert run(Job("memory://samples", tmp_path / "out.csv")).found == 102  # type: ignore[arg-type]
    assert run(Job((SAMPLES,), tmp_path / "out.csv")).found == 100


KILLED = """
import os, sys
from pathlib import Path
from batchdigit import Job, pipeline
from batchdigit.resume import journal
from tests.support.fakes import DictSource

journal.SECONDS_IN_A_PART = journal.SHARE_IN_A_PART = 0.0
folder, out, after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
paths = folder.rglob("*.png")
samples = {os.fsencode(path.relative_to(folder)): path.read_bytes() for path in paths}

def die_after(done, _failed, _found):
    if done >= after:
        os.kill(os.getpid(), 9)

job = Job((folder,), out, batch_size=10)
summary = pipeline.run(job, find=lambda _job: DictSource(samples), on_progress=die_after)
print(summary.resumed)
"""


def test_killed_run_over_a_source_of_bytes_continues_to_the_same_bytes(
    tmp_path: Path, folder: Path, samples: dict[bytes, bytes]
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    pipeline.run(Job((folder,), whole, batch_size=10), find=lambda _job: DictSource(samples))

    def killed_after(done: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", KILLED, folder, out, str(done)],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert killed_after(50).returncode == -signal.SIGKILL
    assert not out.exists()
    done = killed_after(1000)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 40
    assert out.read_bytes() == whole.read_bytes()


def test_changed_bytes_of_a_source_are_predicted_anew(
    tmp_path: Path, samples: dict[bytes, bytes]
) -> None:
    job = Job("memory", tmp_path / "out.csv", update=True)  # type: ignore[arg-type]
    pipeline.run(job, find=lambda _job: DictSource(samples))
    samples[b"1-label-1.png"] = samples[b"2-label-2.png"]
    summary = pipeline.run(job, find=lambda _job: DictSource(samples))
    assert summary.update == {"unchanged": 101, "new": 0, "changed": 1, "gone": 0, "retried": 0}


@pytest.mark.parametrize("backend", BACKENDS)
def test_engine_that_computes_in_reverse_gives_the_same_bytes(
    backend: str, tmp_path: Path, folder: Path
) -> None:
    options = {"backend": backend, "batch_size": 8, "device": "cpu", "topk": 3}
    run(Job((folder,), tmp_path / "local.csv", **options))  # type: ignore[arg-type]
    summary = pipeline.run(
        Job((folder,), tmp_path / "reverse.csv", **options),  # type: ignore[arg-type]
        open_engine=ReverseEngine,
    )
    assert (summary.predicted, summary.failed) == (101, 1)
    assert (tmp_path / "reverse.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def test_fact_of_an_image_comes_through_a_run_by_one_declaration(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes through batches, predictors, the journal of a stopped run, and the last report."""
    monkeypatch.setattr(journal, "SECONDS_IN_A_PART", 0.0)
    monkeypatch.setattr(journal, "SHARE_IN_A_PART", 0.0)
    monkeypatch.setitem(FACTS, "target", Fact("i4", -1))
    read = Reader._read

    def read_with_target(reader: Reader, number: int) -> Batch:
        batch = read(reader, number)
        batch.facts["target"] = 1000 + batch.indices
        return batch

    monkeypatch.setattr(Reader, "_read", read_with_target)
    seen: dict[int, int] = {}
    write = pipeline.Session.predictions

    def watched(session: pipeline.Session) -> object:
        for predictions in write(session):
            seen.update(zip(predictions.indices.tolist(), predictions.facts["target"], strict=True))
            yield predictions

    monkeypatch.setattr(pipeline.Session, "predictions", watched)

    def stop_half_way(done: int, _failed: int, _found: int) -> None:
        if done >= 50:
            raise StoppedBySignal(signal.SIGTERM)

    job = Job((folder,), tmp_path / "out.csv", batch_size=10, update=True)
    with pytest.raises(StoppedBySignal):
        run(job, on_progress=stop_half_way)
    for resumed, reused in ((True, 0), (False, 101)):
        seen.clear()
        summary = run(job)
        assert (summary.resumed > 0, summary.reused) == (resumed, reused)
        assert seen == {index: 1000 + index for index in seen}
        assert len(seen) == 101
