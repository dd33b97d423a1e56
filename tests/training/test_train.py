import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from batchdigit import OutputError, UsageError, run
from batchdigit.job import PACKAGED_WEIGHTS, Job
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.training.job import TrainJob
from batchdigit.training.train import train
from tests.support.programs import app
from tests.support.samples import SAMPLES


def job(data: Path, out: Path, **options: object) -> TrainJob:
    settings: dict[str, object] = {"epochs": 3, "batch_size": 16, "augment": False, "variants": 0}
    return TrainJob(data, out, **(settings | options))  # type: ignore[arg-type]


def test_training_learns_what_it_is_shown(data: Path, tmp_path: Path) -> None:
    summary = train(job(data, tmp_path / "CNN.pt", epochs=12))
    assert summary.validation.images == summary.test.images == 10
    run(Job((SAMPLES,), tmp_path / "out.csv", model=tmp_path / "CNN.pt"))
    rows = (tmp_path / "out.csv").read_text().splitlines()[1:]
    right = sum(row.split(",")[0][-5] == row.split(",")[1] for row in rows)
    assert right > 80  # it was shown 80 of the 100


def test_kept_epoch_is_the_one_of_the_lowest_validation_loss(data: Path, tmp_path: Path) -> None:
    summary = train(job(data, tmp_path / "CNN.pt", epochs=4))
    losses = [entry["loss"] for entry in summary.history]
    assert summary.epoch == 1 + losses.index(min(losses))
    # Calibrated on the same images, but with another memory layout: hence 1e-6 for rounding.
    assert summary.validation.loss <= min(losses) * (1 + 1e-6)


def test_weights_are_a_plain_state_dict_with_scores_beside_it(data: Path, tmp_path: Path) -> None:
    train(job(data, tmp_path / "CNN.pt", epochs=1))
    assert sorted(os.listdir(tmp_path)) == ["CNN.pt", "CNN.pt.train.json"]
    load_checkpoint(tmp_path / "CNN.pt")
    state = torch.load(tmp_path / "CNN.pt", weights_only=True)
    assert all(tensor.is_contiguous() for tensor in state.values())
    scores = json.loads((tmp_path / "CNN.pt.train.json").read_text())
    assert scores["settings"]["seed"] == 0
    assert sum(map(sum, scores["test"]["confusion"])) == 10


def test_same_seed_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        train(job(data, tmp_path / name, epochs=2, augment=True, seed=1 if name == "c" else 0))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_stopped_training_resumes_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    def stop(epoch: int, _score: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    train(job(data, tmp_path / "whole.pt", augment=True))
    with pytest.raises(KeyboardInterrupt):
        train(job(data, tmp_path / "CNN.pt", augment=True), on_epoch=stop)
    assert os.listdir(tmp_path).count("CNN.pt") == 0
    epochs: list[int] = []
    train(
        job(data, tmp_path / "CNN.pt", augment=True), on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == [3]
    whole, resumed = (
        torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "CNN.pt")
    )
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not (tmp_path / "CNN.pt.resume").exists()


def test_training_starts_from_given_weights_and_learns_variants(data: Path, tmp_path: Path) -> None:
    options: dict[str, object] = {"epochs": 1, "start": PACKAGED_WEIGHTS, "learning_rate": 1e-5}
    summary = train(job(data, tmp_path / "CNN.pt", variants=1, **options))
    assert summary.test.errors == 0
    assert summary.settings["start_sha256"] == load_checkpoint(PACKAGED_WEIGHTS).sha256
    train(job(data, tmp_path / "plain.pt", **options))
    assert (tmp_path / "CNN.pt").read_bytes() != (tmp_path / "plain.pt").read_bytes()


def test_full_disk_is_an_error(data: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from batchdigit.cli.app import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        f"sys.argv = ['batchdigit', 'train', '--data', {str(data)!r}, '--out', 'CNN.pt']\n"
        "sys.argv += ['--epochs', '1', '--no-augment', '-q']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 73
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == []


def test_progress_counts_batches_of_the_whole_training(data: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    train(job(data, tmp_path / "CNN.pt", epochs=2), on_progress=lambda *call: calls.append(call))
    assert calls == [(done, 0, 10) for done in range(1, 11)]


def test_command_line_trains(data: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(data), "--out", str(tmp_path / "CNN.pt"), "--epochs", "1"]
    result = CliRunner().invoke(app, [*arguments, "--batch-size", "40", "--no-augment"])
    assert result.exit_code == 0
    assert "kept epoch 1 of 1" in result.output
    load_checkpoint(tmp_path / "CNN.pt")


def test_command_line_names_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--data", str(tmp_path), "--out", "CNN.pt"])
    assert result.exit_code == 66
    assert "--download" in result.output


@pytest.mark.parametrize("name", ["CNN.pt", "CNN.pt.train.json"])
def test_weights_that_no_training_wrote_are_replaced_only_by_force(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_text("{}")
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="--force"):
        patch.delattr("batchdigit.training.train.load_splits")
        train(job(data, tmp_path / "CNN.pt"))
    assert path.read_text() == "{}"
    assert os.listdir(tmp_path) == [name]
    train(job(data, tmp_path / "CNN.pt", epochs=1, force=True))
    train(job(data, tmp_path / "CNN.pt", epochs=1))  # those of a training


def test_weights_are_no_image_to_train_on(data: Path) -> None:
    image = next(data.rglob("*.png"))
    before = image.read_bytes()
    with pytest.raises(UsageError, match="--out"):
        train(job(data, image, force=True))
    assert image.read_bytes() == before
