"""A training run depends on its settings, its images and its seed, and on nothing else."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit import BatchdigitError, CheckpointError, OutputError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint
from batchdigit.models.cnn import CNN
from batchdigit.system.progress import no_progress
from batchdigit.training.digits import Splits
from batchdigit.training.job import TrainJob
from batchdigit.training.trainer import BINDING, Trainer, _moving_average, saved

CPU = torch.device("cpu")


def trainer(splits: Splits, **options: Any) -> Trainer:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 16, "augment": False, "variants": 0}
    return Trainer(TrainJob(Path("data"), Path("out"), **(settings | options)), CPU, splits)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_average_forgets_its_start_quickly_and_then_slowly() -> None:
    average = _moving_average(0.999)
    start, current = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    for step, decay in ((1, 2 / 11), (90, 91 / 100), (100_000, 0.999)):
        expected = decay * start + (1 - decay) * current
        assert torch.allclose(average(start, current, step), expected)
    assert average(torch.tensor(5), torch.tensor(7), 3) == 7  # a count is no average


def test_epochs_depend_on_the_seed_alone(splits: Splits) -> None:
    states = []
    for seed in (0, 0, 1):
        one = trainer(splits, seed=seed, augment=True)
        torch.rand(5)  # whatever else draws random numbers meanwhile
        one.run_epoch(splits.train, no_progress)
        states.append({key: tensor.clone() for key, tensor in one.model.state_dict().items()})
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_progress_counts_all_batches(splits: Splits) -> None:
    one, calls = trainer(splits), []
    for _ in range(2):
        one.run_epoch(splits.train, lambda *call: calls.append(call))
    assert calls == [(done, 0, 6) for done in (1, 2, 3, 4)]
    assert one.epoch == 2


def test_best_weights_are_those_of_the_lowest_loss(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer(splits)
    losses = iter([2.0, 1.0, 3.0, 1.0])
    score = one.judge(splits.validation)
    monkeypatch.setattr(
        "batchdigit.training.trainer.evaluate", lambda *_: replace(score, loss=next(losses))
    )
    one.history.clear()
    kept = []
    for epoch in range(1, 5):
        one.epoch = epoch
        for parameter in one.average.module.parameters():
            parameter.data.fill_(epoch)
        one.judge(splits.validation)
        kept.append((one.best_epoch, float(one.best_state["fc.4.bias"][0])))
    assert kept == [(1, 1), (2, 2), (2, 2), (4, 4)]  # the last of equal ones


def test_kept_weights_do_not_change_with_the_training(splits: Splits) -> None:
    one = trainer(splits)
    one.judge(splits.validation)
    before = {key: tensor.clone() for key, tensor in one.best_state.items()}
    one.run_epoch(splits.train, no_progress)
    assert same(one.best_state, before)
    assert all(tensor.is_contiguous() for tensor in one.best_state.values())


def test_loss_that_is_not_finite_is_an_error(splits: Splits) -> None:
    one = trainer(splits)
    one.average.module.fc[-1].bias.data.fill_(torch.nan)
    with pytest.raises(BatchdigitError, match="--learning-rate"):
        one.judge(splits.validation)


def test_saved_state_continues_to_the_same_weights(splits: Splits, tmp_path: Path) -> None:
    one, other = trainer(splits, augment=True), trainer(splits, augment=True)
    one.run_epoch(splits.train, no_progress)
    one.judge(splits.validation)
    one.save(tmp_path / "state")
    other.load(tmp_path / "state")
    assert (other.epoch, other.best_epoch, other.history) == (1, 1, one.history)
    for each in (one, other):
        each.run_epoch(splits.train, no_progress)
        each.judge(splits.validation)
    assert same(one.model.state_dict(), other.model.state_dict())
    assert same(one.average.state_dict(), other.average.state_dict())
    assert same(one.best_state, other.best_state)
    assert one.schedule.get_last_lr() == other.schedule.get_last_lr()


def test_state_that_is_missing_is_a_start(splits: Splits, tmp_path: Path) -> None:
    one = trainer(splits)
    one.load(tmp_path / "state")
    assert one.epoch == 0


OTHER = {
    "epochs": 4, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.1, "variants": 1,
    "average_decay": 0.99, "augment": True, "preprocess": "fit", "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("setting", BINDING)
def test_state_of_other_settings_is_refused(splits: Splits, tmp_path: Path, setting: str) -> None:
    trainer(splits).save(tmp_path / "state")
    with pytest.raises(CheckpointError, match="--fresh"):
        trainer(splits, **{setting: OTHER[setting]}).load(tmp_path / "state")


def test_state_of_other_images_or_weights_is_refused(splits: Splits, tmp_path: Path) -> None:
    trainer(splits).save(tmp_path / "state")
    fewer = replace(splits, test=splits.test[1:])
    with pytest.raises(CheckpointError, match="--fresh"):
        trainer(fewer).load(tmp_path / "state")
    with pytest.raises(CheckpointError, match="--fresh"):
        trainer(splits, start=PACKAGED_WEIGHTS).load(tmp_path / "state")


@pytest.mark.parametrize("content", [b"", b"damaged", saved({"epoch": 1}), saved([1, 2])])
def test_damaged_state_is_an_error(splits: Splits, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged.*--fresh"):
        trainer(splits).load(tmp_path / "state")


def test_given_weights_are_where_training_begins(splits: Splits) -> None:
    one = trainer(splits, start=PACKAGED_WEIGHTS)
    checkpoint = load_checkpoint(PACKAGED_WEIGHTS)
    assert one.start_sha256 == checkpoint.sha256
    assert same(dict(one.model.state_dict()), dict(checkpoint.model.state_dict()))
    assert all(parameter.requires_grad for parameter in one.model.parameters())


class Reader(CNN):
    """A network of the same layers whose class has another name."""


def test_given_model_may_have_a_class_of_another_name(splits: Splits, tmp_path: Path) -> None:
    torch.save(Reader(), tmp_path / "reader.pt")
    with pytest.raises(CheckpointError, match=r"add --class-name \S*Reader$"):
        trainer(splits, start=tmp_path / "reader.pt")
    one = trainer(splits, start=tmp_path / "reader.pt", class_name="Reader")
    assert one.start_sha256


def test_given_model_may_be_one_of_several(splits: Splits, tmp_path: Path) -> None:
    path, models = tmp_path / "two.pt", {"model": CNN(), "ema": CNN()}
    torch.save({key: model.state_dict() for key, model in models.items()}, path)
    with pytest.raises(CheckpointError, match="choose one by its key: --key model$"):
        trainer(splits, start=path)
    for key, model in models.items():
        one = trainer(splits, start=path, key=key)
        assert same(dict(one.model.state_dict()), dict(model.state_dict()))
    one = trainer(splits, start=path, key="model")
    one.run_epoch(splits.train, no_progress)
    one.judge(splits.validation)
    one.save(tmp_path / "state")
    trainer(splits, start=path, key="model").load(tmp_path / "state")
    with pytest.raises(CheckpointError, match="--fresh"):
        trainer(splits, start=path, key="ema").load(tmp_path / "state")


def test_weights_of_other_classes_are_refused(splits: Splits, tmp_path: Path) -> None:
    torch.save(CNN(3).state_dict(), tmp_path / "three.pt")
    with pytest.raises(CheckpointError, match="knows 3 classes, not 10"):
        trainer(splits, start=tmp_path / "three.pt")


NOT_AS_SAVED: list[dict[str, Any]] = [
    {"epoch": 7},
    {"epoch": "one"},
    {"best_epoch": 0},
    {"best_epoch": 2},
    {"history": []},
    {"history": [{"loss": 1.0}]},
    {"best_state": {}},
    {"best_state": {"layer1.0.weight": torch.full((16, 1, 3, 3), torch.nan)}},
    {"model": {}},
]


@pytest.mark.parametrize("change", NOT_AS_SAVED)
def test_state_that_nobody_saved_is_an_error(
    splits: Splits, tmp_path: Path, change: dict[str, Any]
) -> None:
    one, path = trainer(splits), tmp_path / "state"
    one.run_epoch(splits.train, no_progress)
    one.judge(splits.validation)
    one.save(path)
    trainer(splits).load(path)
    state = torch.load(path, weights_only=True)
    path.write_bytes(saved(state | change))
    with pytest.raises(CheckpointError, match="is damaged.*--fresh"):
        trainer(splits).load(path)


def test_state_of_nan_is_not_published(splits: Splits, tmp_path: Path) -> None:
    one, path = trainer(splits), tmp_path / "state"
    one.run_epoch(splits.train, no_progress)
    one.judge(splits.validation)
    one.best_state["fc.4.bias"][0] = torch.nan
    one.save(path)
    with pytest.raises(CheckpointError, match="is damaged"):
        trainer(splits).load(path)


@pytest.mark.parametrize("plant", ["link", "dangling link", "fifo"])
def test_state_that_leads_elsewhere_is_neither_read_nor_written(
    splits: Splits, tmp_path: Path, plant: str
) -> None:
    path, precious = tmp_path / "state", tmp_path / "precious"
    if plant == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(precious)
    if plant == "link":
        precious.write_bytes(b"precious")
    for call in (trainer(splits).load, trainer(splits).save):
        with pytest.raises(OutputError, match="instead of a regular file"):
            call(path)
    assert (precious.read_bytes() == b"precious") if plant == "link" else not precious.exists()
