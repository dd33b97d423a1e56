from dataclasses import replace
from pathlib import Path

import pytest

from batchdigit.bench.job import BenchJob
from batchdigit.bench.measuring.found import (
    MAX_IMAGES,
    MAX_SECONDS,
    MIN_IMAGES,
    MIN_SECONDS,
    find,
    images_of_samples,
)
from batchdigit.errors import SourceError
from tests.support.engines import BROKEN, FakeEngine, HandClock, found_with
from tests.support.measurements import ONNX, TORCH
from tests.support.samples import SAMPLES


def test_images_are_listed_and_settings_kept_once_each_in_their_order() -> None:
    found = find(BenchJob(), [ONNX, TORCH, ONNX], (SAMPLES,))
    assert len(found.files) == 100
    assert found.settings == (ONNX, TORCH)
    assert found.listing_seconds > 0
    assert found.reading_seconds > 0


def test_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        find(BenchJob(), [ONNX], (tmp_path,))


def test_engine_is_known_by_its_first_setting() -> None:
    tuned = replace(TORCH, workers=2)
    assert found_with(ONNX, TORCH, tuned).engines == {ONNX.engine: ONNX, TORCH.engine: TORCH}


def test_some_images_are_no_more_than_can_be_read_in_time_but_a_few_at_least() -> None:
    found = found_with(ONNX, files=1000, reading_seconds=0.01)
    assert len(found.some(5000, 100.0)) == 1000
    assert len(found.some(500, 100.0)) == 500
    assert len(found.some(5000, 2.0)) == 200
    assert len(found.some(5000, 0.0)) == MIN_IMAGES
    assert len(found_with(ONNX, files=2).some(5000, 0.0)) == 2


@pytest.mark.parametrize("rate", [50.0, 3_000.0, 40_000.0])
def test_sample_takes_about_as_long_as_it_should(rate: float) -> None:
    clock = HandClock(1000.0)
    engine = FakeEngine(clock, lambda _setting: rate)
    found = found_with(TORCH, reading_seconds=1 / rate)
    images, problems = images_of_samples(
        found, {TORCH.engine: engine}, [TORCH.engine], clock, [].append
    )
    assert len(images[TORCH.engine]) / rate == pytest.approx(MAX_SECONDS, rel=0.3)
    assert problems == {}


def test_many_settings_have_short_samples() -> None:
    settings = [replace(TORCH, batch_size=8, workers=workers) for workers in range(100)]
    clock = HandClock(60.0)
    engine = FakeEngine(clock, lambda _setting: 10_000.0)
    images, _ = images_of_samples(
        found_with(*settings), {TORCH.engine: engine}, [TORCH.engine], clock, [].append
    )
    assert len(images[TORCH.engine]) / 10_000 == pytest.approx(MIN_SECONDS, rel=0.5)


def test_sample_holds_four_batches_of_each_size_unless_they_take_far_too_long() -> None:
    settings = [replace(TORCH, batch_size=size) for size in (64, 1024, 100_000)]
    clock = HandClock(60.0)
    engine = FakeEngine(clock, lambda _setting: 1000.0)
    images, _ = images_of_samples(
        found_with(*settings), {TORCH.engine: engine}, [TORCH.engine], clock, [].append
    )
    assert len(images[TORCH.engine]) == 4 * 1024


def test_fast_engine_has_no_endless_samples() -> None:
    clock = HandClock(1000.0)
    engine = FakeEngine(clock, lambda _setting: 1e9)
    images, _ = images_of_samples(
        found_with(TORCH, files=10), {TORCH.engine: engine}, [TORCH.engine], clock, [].append
    )
    assert len(images[TORCH.engine]) <= MAX_IMAGES


def test_engine_that_fails_is_named_and_the_others_go_on() -> None:
    clock = HandClock()
    engines = {
        name: FakeEngine(clock, lambda _setting: 1000.0) for name in (TORCH.engine, ONNX.engine)
    }
    engines[TORCH.engine].errors[TORCH] = BROKEN
    said: list[str] = []
    images, problems = images_of_samples(
        found_with(TORCH, ONNX), engines, list(engines), clock, said.append
    )
    assert images.keys() == {ONNX.engine}
    assert problems == {TORCH.engine: "no memory left; free some"}
    assert said == [f"{TORCH.engine}: no memory left; free some"]
