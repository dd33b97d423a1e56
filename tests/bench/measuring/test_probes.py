from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from batchdigit.bench.measuring.images import evenly
from batchdigit.bench.measuring.probes import network_rate, reading_rate, timed_run, warm_up
from batchdigit.job import Job
from batchdigit.sources.folder import open_folders
from tests.support.oracle import SeedRow
from tests.support.samples import SAMPLES


def test_outcomes_are_those_of_the_plain_loop(seed_rows: list[SeedRow]) -> None:
    files = open_folders([SAMPLES])
    outcomes = warm_up(Job((SAMPLES,), backend="onnxruntime"), files)
    assert outcomes.labels.tolist() == [seed.prediction for seed in seed_rows]
    assert outcomes.probs == pytest.approx([max(seed.probs) for seed in seed_rows], abs=1e-4)


def test_image_that_cannot_be_read_counts_as_an_outcome(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    outcomes = warm_up(Job((tmp_path,)), open_folders([tmp_path]))
    assert outcomes.labels.tolist() == [-1]


def test_folder_without_a_usable_image_can_be_measured(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    files = evenly(open_folders([tmp_path]), 10)
    job = Job((tmp_path,), backend="onnxruntime", batch_size=4, workers=1)
    assert network_rate(job, files, 0.05) > 0
    rate = reading_rate(job, evenly(files, 100), 0.05)
    assert rate is not None
    assert rate > 0
    assert reading_rate(job, files, 0.05) is None  # three batches say nothing


def test_run_is_timed_with_the_listing_that_it_did_without(tmp_path: Path) -> None:
    files = evenly(open_folders([SAMPLES]), 20)
    job = Job((SAMPLES,), backend="onnxruntime", workers=0, batch_size=8, fresh=True)
    sample = timed_run(job, files, tmp_path, 100.0)
    assert (sample.images, sample.batch_size, sample.workers) == (20, 8, 0)
    assert sample.seconds["list"] >= 2000
    assert sample.span >= 2000
    assert (tmp_path / "preds.csv").exists()
    assert sample.peak_device_memory is None


class Coloured(nn.Module):
    """Takes nothing but RGB images of 24x20 pixels, which it is given with these scores."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 24 * 20, 5)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (3, 24, 20):
            raise ValueError(f"not {tuple(x.shape)}")
        scores: Tensor = self.fc(x.flatten(1))
        return scores


@pytest.mark.parametrize("how", ["exact", "fit"])
@pytest.mark.parametrize("readable", [True, False])
def test_network_of_another_size_and_of_colours_is_measured(
    tmp_path: Path, how: str, *, readable: bool
) -> None:
    model = tmp_path / "net.pt"
    torch.save(Coloured().state_dict(), model)
    folder = SAMPLES if readable else tmp_path / "images"
    if not readable:
        folder.mkdir()
        (folder / "0.png").write_bytes(b"no image")
    job = Job(
        (folder,), model=model, network=f"{__file__}:Coloured", input_size="24x20", channels=3,
        preprocess=how, batch_size=4, workers=0, model_check=False, device="cpu",
    )  # fmt: skip
    files = evenly(open_folders([folder]), 10)
    assert network_rate(job, files, 0.05) > 0
    assert (warm_up(job, files).labels >= 0).all() == readable
