"""``batchdigit train``: exit codes, and which options reach the training."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batchdigit import CheckpointError, SourceError
from batchdigit.training import train as training
from batchdigit.training.job import TrainJob
from tests.support.programs import app

runner = CliRunner()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "0"],
        ["--learning-rate", "0"],
        ["--batch-size", "0"],
        ["--variants", "101"],
        ["--preprocess", "exact"],
        ["--device", "tpu"],
        ["--seed", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_2(tmp_path: Path, arguments: list[str]) -> None:
    paths = ["--data", str(tmp_path), "--out", str(tmp_path / "CNN.pt")]
    done = runner.invoke(app, ["train", *paths, *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchdigit: ")
    assert "; " in line


def test_data_and_out_must_be_given() -> None:
    for arguments in (["--data", "images"], ["--out", "CNN.pt"]):
        assert runner.invoke(app, ["train", *arguments]).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"), [(SourceError("no digits"), 66), (CheckpointError("no weights"), 65)]
)
def test_problem_in_training_decides_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    asked: list[TrainJob] = []

    def fail(job: TrainJob, **_: Any) -> None:
        asked.append(job)
        raise error

    monkeypatch.setattr(training, "train", fail)
    out = tmp_path / "CNN.pt"
    options = ["--epochs", "3", "-b", "7", "--no-augment", "--variants", "0", "--seed", "5"]
    options += ["--start", "two.pt", "--class-name", "Net", "--key", "ema.model"]
    done = runner.invoke(app, ["train", "--data", str(tmp_path), "-o", str(out), *options])
    assert (done.exit_code, done.stderr) == (code, f"batchdigit: {error}\n")
    expected = TrainJob(
        data=tmp_path, out=out, epochs=3, batch_size=7, augment=False, variants=0, seed=5,
        start=Path("two.pt"), class_name="Net", key="ema.model",
    )  # fmt: skip
    assert asked == [expected]
