"""The local engine: it loads the model, chooses how to read, and predicts what it is asked to."""

import math
from pathlib import Path

import numpy as np
import pytest

from batchdigit import Job, convert_model
from batchdigit.engines.local import LocalEngine
from batchdigit.errors import CheckpointError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.sources.find import find_images
from batchdigit.system.stopwatch import Stopwatch
from tests.support.oracle import SeedRow
from tests.support.own_models import FILE, network, own, saved_weights
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
        ({"mean": 0.5, "std": 0.5}, {"the declared input"}),
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


def test_binding_changes_with_the_network_its_arguments_and_its_weights(tmp_path: Path) -> None:
    """Rows are computed anew where any of these has changed."""
    path = saved_weights(tmp_path)
    other = saved_weights(tmp_path, own("Linear", prepare=lambda pixels: 1 - pixels), "other.pt")
    copy = tmp_path / "mine.py"
    copy.write_text(FILE.read_text())

    def binding(model: object = path, **options: object) -> dict[str, object]:
        job = job_on(**{"model": model, "network": network("Linear"), **options})
        return LocalEngine(job, Stopwatch()).binding

    def changed(**options: object) -> set[str]:
        now, then = binding(**options), binding()
        return {name for name in {*now, *then} if now.get(name) != then.get(name)}

    assert changed() == set()
    assert changed(network=f"{copy}:Linear") == set()  # the same code elsewhere
    assert changed(network=network("InATuple")) == {"--network"}
    assert changed(network_args={"classes": 10}) == {"--network-args"}
    assert changed(model=other) == {"model"}
    assert changed(expects="dark-on-light") == {"the declared input"}
    assert changed(scores="logits") == set()  # which is what they are found to be
    copy.write_text(copy.read_text().replace("self.fc(x.flatten(1))", "self.fc(-x.flatten(1))"))
    assert changed(network=f"{copy}:Linear") == {"--network"}


def test_binding_of_a_network_in_memory_changes_with_what_it_is() -> None:
    def binding(name: str, **options: object) -> dict[str, object]:
        return LocalEngine(job_on(model=own(name), **options), Stopwatch()).binding

    assert binding("Linear") == binding("Linear")
    assert binding("Linear") != binding("InATuple")
    assert binding("Linear") != binding("Linear", mean=0.1, std=1.0)
    faint = own("Linear")
    faint.fc.bias.data += 1
    assert LocalEngine(job_on(model=faint), Stopwatch()).binding != binding("Linear")


def test_account_says_which_network_computed_and_what_it_takes(tmp_path: Path) -> None:
    job = job_on(model=saved_weights(tmp_path), network=network("Sigmoid"), mean=0.1, std=1.0)
    model = LocalEngine(job, Stopwatch()).account()["model"]
    assert model["network"] == network("Sigmoid")
    assert len(model["network_sha256"]) == 64
    assert (model["mean"], model["std"], model["scores"]) == ((0.1,), (1.0,), "probabilities")
    assert model["adds_up"] is False


@pytest.mark.parametrize("backend", BACKENDS)
def test_model_is_checked_on_known_digits_before_it_computes(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = saved_weights(tmp_path, own("Linear", prepare=lambda pixels: 1 - pixels))
    options: dict[str, object] = {"model": path, "network": network("Linear")}
    if backend == "onnxruntime":
        convert_model(path, tmp_path / "own.onnx", network=network("Linear"))
        options = {"model": tmp_path / "own.onnx", "range": "0-255"}
    engine = LocalEngine(job_on(**options, preprocess="auto"), Stopwatch())
    source = find_images(engine.job)
    with engine.predictions(source, np.arange(3)) as computed:
        (said,) = [record.getMessage() for record in caplog.records]
        assert "known digits right" in said
        assert "--expects dark-on-light; give these options instead" in said
        assert sum(map(len, computed)) == 3
    known = engine.account()["model"]["known_digits"]
    assert known["better"]["expects"] == "dark-on-light"
