"""The local engine: it loads the model, chooses how to read, and predicts what it is asked to."""

import math
from pathlib import Path

import numpy as np
import pytest

from batchdigit import Job
from batchdigit.engines.local import LocalEngine
from batchdigit.errors import CheckpointError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.sources.find import find_images
from batchdigit.system.stopwatch import Stopwatch
from tests.support.oracle import SeedRow
from tests.support.samples import SAMPLES

BACKENDS = ["onnxruntime", "torch"]


def job_on(**options: object) -> Job:
    return Job(
        (str(SAMPLES),),
        **({"device": "cpu", "workers": 0, "preprocess": "exact"} | options),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_what_was_asked_for_is_predicted_in_order(
    backend: str, seed_rows: list[SeedRow]
) -> None:
    job = job_on(backend=backend, batch_size=8)
    engine, source = LocalEngine(job, Stopwatch()), find_images(job)
    places = np.arange(1, 100, 3)
    assert engine.batch_size(source) == 8
    with engine.predictions(source, places) as computed:
        parts = list(computed)
    assert np.concatenate([part.indices for part in parts]).tolist() == places.tolist()
    assert len(parts) == math.ceil(len(places) / 8)
    labels = np.concatenate([part.labels[:, 0] for part in parts])
    assert labels.tolist() == [seed_rows[place].prediction for place in places]


@pytest.mark.parametrize("backend", BACKENDS)
def test_account_says_what_computed(backend: str) -> None:
    job = job_on(backend=backend, batch_size=50)
    engine, source = LocalEngine(job, Stopwatch()), find_images(job)
    engine.batch_size(source)
    with engine.predictions(source, np.arange(10)) as computed:
        list(computed)
    account = engine.account()
    assert account["computed"]["backend"] == engine.backend == backend
    assert account["computed"]["device"] == engine.device == "cpu"
    assert account["model"]["classes"] == engine.classes == 10
    assert account["model"]["path"] == str(PACKAGED_WEIGHTS)
    assert account["reader"] == {
        "batch_size": 50, "batch_size_by": "given", "workers": 0, "start_method": None,
        "how": "this process",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"topk": 3}, {"--topk or --probs"}),
        ({"probs": True}, {"--topk or --probs"}),
        # Each backend names the processor its own way.
        ({"backend": "torch"}, {"--backend", "versions", "processor"}),
        ({"mean": 0.5, "std": 0.5}, {"--mean and --std"}),
        ({"batch_size": 7}, set()),  # which the journal keeps to by itself
        ({"topk": 2}, set()),  # the margin needs two labels anyway
    ],
)
def test_binding_is_what_predictions_depend_on(options: dict[str, object], names: set[str]) -> None:
    ours, theirs = (
        LocalEngine(job, Stopwatch()).binding
        for job in (job_on(backend="onnxruntime"), job_on(**{"backend": "onnxruntime", **options}))
    )
    assert {name for name in ours if ours[name] != theirs[name]} == names


def test_model_that_is_none_is_refused_when_the_engine_opens(tmp_path: Path) -> None:
    model = tmp_path / "CNN.pt"
    model.write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match=r"CNN\.pt"):
        LocalEngine(job_on(model=model), Stopwatch())
