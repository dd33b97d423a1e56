import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from batchdigit import CNN, DeviceError, Failure
from batchdigit.backends import torch_predictor
from batchdigit.backends.torch_predictor import Predictor, _DeviceLaps
from batchdigit.batches import Batch
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint
from tests.support.oracle import SeedRow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> CNN:
    return load_checkpoint(PACKAGED_WEIGHTS).model


@pytest.fixture(scope="module")
def batch(sample_paths: list[Path]) -> Batch:
    images = np.stack([np.array(Image.open(path)) for path in sample_paths])
    return Batch(np.arange(100), images[:, None])


def test_probabilities_are_those_of_the_plain_loop(
    model: CNN, batch: Batch, seed_rows: list[SeedRow]
) -> None:
    (predictions,) = Predictor(model, CPU, k=10).predict([batch])
    assert predictions.labels.dtype == np.int64
    assert predictions.probs.dtype == np.float32
    assert predictions.labels.shape == predictions.probs.shape == (100, 10)
    for row, seed in enumerate(seed_rows):
        assert predictions.labels[row, 0] == seed.prediction
        by_label = dict(zip(predictions.labels[row], predictions.probs[row], strict=True))
        assert [by_label[label] for label in range(10)] == pytest.approx(seed.probs, abs=1e-6)
    assert (np.diff(predictions.probs, axis=1) <= 0).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_differs_only_where_two_digits_are_level(
    model: CNN, batch: Batch, seed_rows: list[SeedRow], precision: str
) -> None:
    (predictions,) = Predictor(model, CPU, precision=precision).predict([batch])
    assert predictions.probs.dtype == np.float32
    for row, seed in enumerate(seed_rows):
        best, second = sorted(seed.probs, reverse=True)[:2]
        if best - second > 0.01:
            assert predictions.labels[row, 0] == seed.prediction
        assert predictions.probs[row, 0] == pytest.approx(best, abs=0.01)


def test_batches_come_back_in_order_with_their_failures(model: CNN, batch: Batch) -> None:
    failure = Failure(3, "read", "gone")
    empty = Batch(
        np.arange(0),
        np.empty((0, 1, 28, 28), np.uint8),
        failures=(failure,),
    )
    first = Batch(batch.indices[:7], batch.images[:7])
    last = Batch(batch.indices[7:], batch.images[7:])
    parts = [first, empty, last]
    predictions = list(Predictor(model, CPU).predict(parts))
    assert [len(part) for part in predictions] == [7, 0, 93]
    assert predictions[1].failures == (failure,)
    assert np.concatenate([part.indices for part in predictions]).tolist() == list(range(100))


def test_works_as_many_batches_ahead_as_there_are_threads(model: CNN, batch: Batch) -> None:
    taken = itertools.count()
    predictions = Predictor(model, CPU).predict(batch for _ in range(99) if next(taken) >= 0)
    next(predictions)
    assert 1 <= next(taken) <= torch.get_num_threads() + 1


def test_number_of_threads_is_changed_only_within_the_predictor(model: CNN, batch: Batch) -> None:
    """Each of its threads computes alone; the caller, meanwhile and later, as it did before."""
    before = torch.get_num_threads()
    threads: list[int] = []

    class Asking(Predictor):
        def _top_k_of_part(self, images_BCHW: torch.Tensor, laps: object) -> torch.Tensor:
            threads.append(torch.get_num_threads())
            return super()._top_k_of_part(images_BCHW, laps)

    predictions = Asking(model, CPU).predict([batch] * 9)
    next(predictions)
    assert torch.get_num_threads() == before
    list(predictions)
    assert set(threads) == {1}
    assert torch.get_num_threads() == before
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before]


def test_model_is_left_as_it_was(model: CNN, batch: Batch) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    list(Predictor(model, CPU, precision="bf16").predict([batch]))
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_settings_of_torch_are_left_as_they_were(model: CNN, batch: Batch) -> None:
    knob = torch.backends.cuda.matmul
    knob.fp32_precision = "tf32"
    try:
        list(Predictor(model, CPU).predict([batch]))
        assert knob.fp32_precision == "tf32"
    finally:
        knob.fp32_precision = "none"


def test_threads_that_overlap_leave_the_settings_as_they_were() -> None:
    """The first to enter is the first to leave, while the second still computes."""
    knob = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = knob.fp32_precision
    assert before != "ieee"
    first, second = torch_predictor._IEEE_FP32, torch_predictor._IEEE_FP32
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert knob.fp32_precision == "ieee"
    second.__exit__()
    assert knob.fp32_precision == before


def test_output_that_is_not_finite_is_an_error(batch: Batch) -> None:
    torch.manual_seed(0)
    model = CNN().eval()
    with torch.no_grad():
        model.fc[0].weight.mul_(1e9)  # fine in fp32, too large for fp16
    assert np.isfinite(next(Predictor(model, CPU).predict([batch])).probs).all()
    with pytest.raises(DeviceError, match="use --precision fp32"):
        list(Predictor(model, CPU, precision="fp16").predict([batch]))


class Scarce(Predictor):
    """A device with memory for only a few images."""

    room = 10

    def _top_k_of_part(self, images_BCHW: torch.Tensor, laps: object) -> torch.Tensor:
        if len(images_BCHW) > self.room:
            raise torch.OutOfMemoryError
        return super()._top_k_of_part(images_BCHW, laps)


def test_out_of_memory_halves_the_batch_and_goes_on(
    model: CNN, batch: Batch, seed_rows: list[SeedRow]
) -> None:
    predictor = Scarce(model, CPU)
    first, second = predictor.predict([batch, batch])
    assert predictor.largest_batch == 6  # 100, 50, 25, 12, 6
    assert first.labels[:, 0].tolist() == [seed.prediction for seed in seed_rows]
    assert np.array_equal(first.probs, second.probs)


def test_no_memory_for_one_image_is_an_error(model: CNN, batch: Batch) -> None:
    predictor = Scarce(model, CPU)
    predictor.room = 0
    with pytest.raises(DeviceError, match="no memory left"):
        list(predictor.predict([batch]))


def test_laps_of_a_device_are_those_between_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            assert stream == "the stream of cuda:1"
            self.time = now[0]

        def elapsed_time(self, end: "Event") -> float:
            return (end.time - self.time) * 1000  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    laps = _DeviceLaps(torch.device("cuda", 1))
    for stage, seconds in (("transfer", 1), ("network", 2), ("transfer", 4), (None, 8)):
        laps.enter(stage)
        now[0] += seconds
    assert laps.seconds == {"transfer": 5, "network": 2}
