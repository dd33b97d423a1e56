import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import transforms

import batchdigit
from batchdigit import AccountingError, CheckpointError, Predictions, SourceError
from batchdigit.images import decode
from tests.support.oracle import SeedRow
from tests.support.own_models import own, plain_loop, reads_digits
from tests.support.platforms import needs_linux
from tests.support.processes import children
from tests.support.samples import SAMPLES, lose_the_last_batch


def test_predict_gives_the_rows_of_the_plain_loop(seed_rows: list[SeedRow]) -> None:
    table = batchdigit.predict(SAMPLES)
    columns = ["filename", "prediction", "confidence", "error", "margin", "needs_review"]
    assert list(table.columns) == columns
    assert table["prediction"].tolist() == [seed.prediction for seed in seed_rows]
    assert table["confidence"].to_numpy() == pytest.approx(
        [max(seed.probs) for seed in seed_rows], abs=1e-4
    )
    assert table["error"].isna().all()


def test_predict_is_the_report_read_back(tmp_path: Path, digits: Path) -> None:
    (digits / "03.png").write_bytes(b"damaged")
    table = batchdigit.predict(digits, topk=2, probs=True, batch_size=4)
    batchdigit.run(
        batchdigit.Job((digits,), tmp_path / "out.parquet", topk=2, probs=True, batch_size=4)
    )
    report = pd.read_parquet(tmp_path / "out.parquet")
    assert list(table.columns) == list(report.columns)
    for name in table.columns:
        assert table[name].isna().tolist() == report[name].isna().tolist()
        assert table[name].dropna().tolist() == report[name].dropna().tolist()
    assert str(table["prediction"].dtype) == "Int64"
    assert str(table["confidence"].dtype) == "float32"


@pytest.mark.parametrize("kind", [str, Path, lambda path: [path], lambda path: [str(path)]])
def test_source_may_be_a_path_or_several(digits: Path, kind: object) -> None:
    assert len(batchdigit.predict(kind(digits))) == 10  # type: ignore[operator]


def test_sources_may_be_files(digits: Path) -> None:
    table = batchdigit.predict([digits / "02.png", digits / "01.png"])
    assert table["filename"].tolist() == ["01.png", "02.png"]


def test_stream_gives_batches_with_names_and_failures(digits: Path) -> None:
    (digits / "05.png").write_bytes(b"damaged")
    batches = list(batchdigit.stream(digits, batch_size=4, topk=3))
    assert all(isinstance(batch, Predictions) for batch in batches)
    assert [batch.labels.shape for batch in batches] == [(4, 3), (3, 3), (2, 3)]
    assert batches[1].filenames == ["04.png", "06.png", "07.png"]
    assert [failure.index for failure in batches[1].failures] == [5]
    whole = batchdigit.predict(digits, batch_size=4)["prediction"].dropna()
    assert np.concatenate([batch.labels[:, 0] for batch in batches]).tolist() == whole.tolist()


@needs_linux("/proc")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_stream_may_be_left_early(digits: Path, start_method: str) -> None:
    for number in range(3000):  # too many for one process to read ahead
        os.link(digits / "00.png", digits / f"more-{number}.png")
    stream = batchdigit.stream(digits, batch_size=1, workers=1, start_method=start_method)
    next(stream)
    assert len(children()) == 1
    stream.close()
    assert children() == []


THREADED = """
import threading, time, batchdigit
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
table = batchdigit.predict({folder!r}, workers=2, batch_size=3, backend={backend!r})
print(len(table), table["error"].isna().all())
"""
IN_A_POOL = """
import multiprocessing, batchdigit
def predict(folder):
    table = batchdigit.predict(folder, workers=2, batch_size=3, backend={backend!r})
    return len(table), table["error"].isna().all()
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.map(predict, [{folder!r}])[0])
"""


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
@pytest.mark.parametrize(
    ("program", "stdin"), [(THREADED, False), (THREADED, True), (IN_A_POOL, False)]
)
def test_program_may_have_threads_and_no_guard_or_be_a_daemonic_process(
    digits: Path, tmp_path: Path, program: str, stdin: bool, backend: str
) -> None:
    code = program.format(folder=str(digits), backend=backend)
    (tmp_path / "program.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-" if stdin else "program.py"], input=code if stdin else None,
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("10 True\n", "")


@pytest.mark.parametrize(
    "read",
    [batchdigit.predict, lambda source, **options: list(batchdigit.stream(source, **options))],
)
def test_lost_batch_is_an_error(
    digits: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[..., object]
) -> None:
    lose_the_last_batch(monkeypatch)
    with pytest.raises(AccountingError):
        read(digits, batch_size=4)


def test_threads_may_predict_at_once(digits: Path) -> None:
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(digits / "more.tif")
    before = os.fstat(2)
    expected = batchdigit.predict(digits, workers=0)
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(lambda _: batchdigit.predict(digits, workers=0), range(8)))
    assert all(table.equals(expected) for table in tables)
    assert os.path.samestat(os.fstat(2), before)
    assert Image.MAX_IMAGE_PIXELS != decode.MAX_PIXELS


def test_own_model_is_used(tmp_path: Path, digits: Path) -> None:
    torch.manual_seed(0)
    torch.save(batchdigit.CNN().state_dict(), tmp_path / "CNN.pt")
    assert batchdigit.predict(digits, tmp_path / "CNN.pt")["confidence"].max() < 0.5
    assert batchdigit.predict(digits)["confidence"].min() > 0.4


def test_model_argument_beats_the_environment_which_beats_the_package(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(batchdigit.CNN(3).state_dict(), tmp_path / "three.pt")
    torch.save(batchdigit.CNN(4).state_dict(), tmp_path / "four.pt")
    columns = ["filename", "prediction", "confidence", "error", "margin", "needs_review"]

    def classes(model: Path | None = None) -> int:
        table = batchdigit.predict(digits, model, probs=True)
        return len(table.columns) - len(columns)

    assert classes() == 10
    monkeypatch.setenv("BATCHDIGIT_MODEL", str(tmp_path / "three.pt"))
    assert classes() == 3
    assert classes(tmp_path / "four.pt") == 4
    monkeypatch.setenv("BATCHDIGIT_MODEL", "")
    assert classes() == 10


def test_labels_name_the_classes(digits: Path) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    numbers = batchdigit.predict(digits)["prediction"]
    words = batchdigit.predict(digits, labels=names)["prediction"]
    assert words.dtype == "string"
    assert words.tolist() == [names[number] for number in numbers]
    with pytest.raises(batchdigit.UsageError, match="9 labels.*10 classes"):
        batchdigit.predict(digits, labels=names[1:])


def test_problems_are_exceptions_with_a_remedy(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(SourceError):
        batchdigit.predict(tmp_path / "missing")
    with pytest.raises(CheckpointError) as caught:
        batchdigit.predict(digits, tmp_path / "missing.pt")
    assert caught.value.remedy


@pytest.mark.parametrize(
    "name", ["out", "format", "max_bad", "update", "retry_errors", "fresh", "wait"]
)
def test_options_of_a_report_are_refused(digits: Path, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        batchdigit.predict(digits, **{name: "x"})


def test_frame_of_no_images_has_its_columns_if_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match="--allow-empty"):
        batchdigit.predict(tmp_path / "in")
    table = batchdigit.predict(tmp_path / "in", allow_empty=True)
    assert len(table) == 0
    assert list(table)[:3] == ["filename", "prediction", "confidence"]


# Networks of the user's own


class Doubled(torch.nn.Module):
    """As somebody writes it in a notebook, where no file has its class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.fc(x.flatten(1))}


def test_network_in_memory_gives_the_rows_of_its_own_loop(sample_paths: list[Path]) -> None:
    network = reads_digits(Doubled(), prepare=lambda pixels: (pixels - 0.5) / 0.5)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    expected = plain_loop(
        network, sample_paths, transform, lambda output: output["logits"].softmax(1)
    )
    spec = batchdigit.InputSpec(mean=0.5, std=0.5)
    table = batchdigit.predict(SAMPLES, model=network, spec=spec, preprocess="exact")
    assert table["prediction"].tolist() == expected.argmax(1).tolist()
    assert table["confidence"].to_numpy() == pytest.approx(expected.max(1), abs=1e-4)
    streamed = list(batchdigit.stream(SAMPLES, network, spec, preprocess="exact"))
    labels = np.concatenate([part.labels[:, 0] for part in streamed])
    assert labels.tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_network_in_memory_may_be_used_in_threads(digits: Path, workers: int) -> None:
    network = own("KeepsWhatItSaw")
    expected = batchdigit.predict(digits, network, workers=0)
    with ThreadPoolExecutor(3) as pool:
        tables = pool.map(lambda _: batchdigit.predict(digits, network, workers=workers), range(3))
        assert all(table.equals(expected) for table in tables)


def test_labels_of_a_network_name_its_classes_and_stop_fitting(digits: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    table = batchdigit.predict(digits, network, labels=["a", "b", "c"], explain=True)
    assert set(table["prediction"]) <= {"a", "b", "c"}
    with pytest.raises(batchdigit.UsageError, match="2 labels.*3 classes"):
        batchdigit.predict(digits, network, labels=["a", "b"])


def test_folder_without_images_is_no_empty_batch_of_an_own_network(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"bad")
    table = batchdigit.predict(tmp_path / "in", own("Squeezed"))
    assert table["prediction"].isna().all()
    (tmp_path / "in" / "bad.png").unlink()
    assert len(batchdigit.predict(tmp_path / "in", own("Squeezed"), allow_empty=True)) == 0


def test_option_that_replaces_files_is_none_of_a_frame() -> None:
    with pytest.raises(TypeError, match="force"):
        batchdigit.predict("images", force=True)
