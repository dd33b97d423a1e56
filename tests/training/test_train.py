import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from batchdigit import BatchdigitError, CheckpointError, UsageError, run
from batchdigit.cli.app import app
from batchdigit.job import PACKAGED_WEIGHTS, Job
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.cnn import CNN
from batchdigit.training.augment import augmentation
from batchdigit.training.digits import Digits, load_splits
from batchdigit.training.job import TrainJob
from batchdigit.training.scores import calibrate
from batchdigit.training.train import train
from tests.support.samples import SAMPLES


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample digits as a labelled folder."""
    folder = tmp_path_factory.mktemp("labelled")
    for path in SAMPLES.glob("*.png"):
        (folder / path.stem[-1]).mkdir(exist_ok=True)
        (folder / path.stem[-1] / path.name).write_bytes(path.read_bytes())
    return folder


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
    # Calibrated on the same images; of weights laid out in another way, so 1e-6 for rounding.
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


def test_state_of_another_training_is_not_resumed(data: Path, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job(data, tmp_path / "CNN.pt"), on_epoch=stop)
    with pytest.raises(CheckpointError, match="--fresh"):
        train(job(data, tmp_path / "CNN.pt", seed=5))
    train(job(data, tmp_path / "CNN.pt", seed=5, fresh=True, epochs=1))


def test_state_of_a_training_on_other_images_is_not_resumed(data: Path, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job(data, tmp_path / "CNN.pt"), on_epoch=stop)
    other = tmp_path / "other"
    shutil.copytree(data, other)
    next(other.glob("3/*.png")).unlink()
    with pytest.raises(CheckpointError, match="images or versions"):
        train(job(other, tmp_path / "CNN.pt"))


def test_training_that_goes_astray_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BatchdigitError, match="--learning-rate"):
        train(job(data, tmp_path / "CNN.pt", learning_rate=1e30))
    assert not (tmp_path / "CNN.pt").exists()


def test_training_takes_up_given_weights_and_learns_variants(data: Path, tmp_path: Path) -> None:
    options: dict[str, object] = {"epochs": 1, "start": PACKAGED_WEIGHTS, "learning_rate": 1e-5}
    summary = train(job(data, tmp_path / "CNN.pt", variants=1, **options))
    assert summary.test.errors == 0
    assert summary.settings["start_sha256"] == load_checkpoint(PACKAGED_WEIGHTS).sha256
    train(job(data, tmp_path / "plain.pt", **options))
    assert (tmp_path / "CNN.pt").read_bytes() != (tmp_path / "plain.pt").read_bytes()


def test_training_does_not_take_up_weights_of_other_classes(data: Path, tmp_path: Path) -> None:
    torch.save(CNN(3).state_dict(), tmp_path / "three.pt")
    with pytest.raises(CheckpointError, match="3 classes"):
        train(job(data, tmp_path / "CNN.pt", start=tmp_path / "three.pt"))


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_calibration_undoes_a_wrong_temperature(data: Path, factor: float) -> None:
    digits = load_splits(data, download=False, seed=0).train
    labels = digits.labels.clone()
    labels[:16] = (labels[:16] + 1) % 10  # a fifth is wrong: 80% is the right confidence
    digits = Digits(digits.images, labels)
    model, other = (load_checkpoint(PACKAGED_WEIGHTS).model for _ in range(2))
    for parameter in other.fc[-1].parameters():
        parameter.data.mul_(factor)
    temperature, others = calibrate(model, digits), calibrate(other, digits)
    assert others == pytest.approx(temperature * factor, rel=0.02)
    image = digits.images[:1].float() / 255
    assert torch.allclose(model(image), other(image), rtol=0.02, atol=1e-3)


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


def test_damaged_state_is_an_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "CNN.pt.resume").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="--fresh"):
        train(job(data, tmp_path / "CNN.pt"))


def test_augmentation_keeps_shape_and_type_and_changes_pixels() -> None:
    torch.manual_seed(0)
    images = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 12:16] = 255
    changed = augmentation()(images)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, images)
    assert float(changed.float().mean()) == pytest.approx(float(images.float().mean()), rel=0.4)


def test_progress_counts_batches_of_the_whole_training(data: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    train(job(data, tmp_path / "CNN.pt", epochs=2), on_progress=lambda *call: calls.append(call))
    assert calls == [(done, 0, 10) for done in range(1, 11)]


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"device": "x"},
        {"learning_rate": 0},
        {"batch_size": 0},
    ],
)
def test_senseless_option_is_an_error(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TrainJob(Path("data"), Path("out"), **options)  # type: ignore[arg-type]


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
