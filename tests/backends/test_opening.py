"""What is said of a model: by options, by what stands beside its file, by the file itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import batchdigit
from batchdigit import CheckpointError, Job, UsageError
from batchdigit.backends.opening import open_model, open_model_file
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.described import METADATA
from tests.support.own_models import network, own, refused, saved_weights

LETTERS = list("abcdefghij")


def opened(model: Any, **options: Any) -> Job:
    """The job with all that is said of its model."""
    job, _ = open_model_file(Job(["x"], model=model, **options))
    return job


def metadata(**said: Any) -> dict[str, str]:
    return {METADATA: json.dumps(said)}


def test_nothing_is_said_of_the_packaged_model_as_it_is() -> None:
    job = opened(PACKAGED_WEIGHTS)
    assert job.declaration.given() == {}
    assert (job.labels, job.preprocess) == ((), None)


def test_module_has_no_file() -> None:
    job, file = open_model_file(Job(["x"], model=own("Linear"), mean=0.5, std=0.5))
    assert file is None
    assert job.declaration.given() == {"mean": (0.5,), "std": (0.5,)}


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A file with metadata, beside it a model.toml and a processor's settings."""
    path = tmp_path / "CNN.safetensors"
    said = {"mean": [0.2], "std": [0.2], "range": "0-255", "scores": "logits", "place": "pad"}
    save_file(own("Linear").state_dict(), path, metadata(input=said, labels=LETTERS[::-1]))
    (tmp_path / "model.toml").write_text(
        'fit = "fit"\nlabels = ["a","b","c","d","e","f","g","h","i","j"]\n'
        "[input]\nmean = 0.3\nstd = 0.3\ntranspose = true\nscores = 'probabilities'\n"
    )
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 32, "width": 32}, "image_mean": [0.7], "image_std": [0.7]})
    )
    return path


def test_options_come_before_model_toml_metadata_and_processors(described: Path) -> None:
    job = opened(described, scores="log-probabilities")
    assert job.declaration.given() == {
        "size": (32, 32),  # of the processor
        "channels": 1,
        "mean": (0.3,),  # of model.toml, and for 0-1, whatever the metadata has
        "std": (0.3,),
        "transpose": True,
        "place": "pad",
        "scores": "log-probabilities",  # of the option
    }
    assert (job.labels, job.preprocess) == (tuple(LETTERS), "fit")
    job = opened(described, mean=0.9, std=0.9, labels=LETTERS[1:], preprocess="auto")
    assert (job.mean, job.std, job.labels) == ((0.9,), (0.9,), tuple(LETTERS[1:]))
    assert job.preprocess == "auto"


def test_metadata_alone_says_it(described: Path) -> None:
    for name in ("model.toml", "preprocessor_config.json"):
        (described.parent / name).unlink()
    job = opened(described)
    assert (job.mean, job.scores, job.labels) == ((0.2,), "logits", tuple(LETTERS[::-1]))


def test_model_toml_names_the_weights(described: Path) -> None:
    toml = described.parent / "model.toml"
    toml.write_text('weights = "CNN.safetensors"\n' + toml.read_text())
    job, file = open_model_file(Job(["x"], model=toml))
    assert job.model == described
    assert file is not None
    assert file.path == described
    assert job.mean == (0.3,)


@pytest.mark.parametrize("content", ["network = 'x.py:Net'", "mean = 3", "[input]\nmeen = 3", "{"])
def test_what_makes_no_sense_beside_a_model_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.toml").write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.toml") as caught:
        opened(saved_weights(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_metadata_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    save_file(own("Linear").state_dict(), tmp_path / "x.safetensors", {METADATA: "{"})
    with pytest.raises(CheckpointError, match="is not JSON"):
        opened(tmp_path / "x.safetensors")


def test_what_was_converted_says_it_of_itself(tmp_path: Path) -> None:
    path = saved_weights(tmp_path, own("Linear", prepare=lambda pixels: (pixels - 0.5) / 0.25))
    options = {"network": network("Linear"), "mean": 0.5, "std": 0.25, "labels": LETTERS}
    batchdigit.convert_model(path, tmp_path / "own.safetensors", **options)
    job = opened(tmp_path / "own.safetensors")
    assert (job.mean, job.std, job.labels) == ((0.5,), (0.25,), tuple(LETTERS))
    batchdigit.convert_model(path, tmp_path / "own.onnx", **options)
    job = opened(tmp_path / "own.onnx")
    assert (job.mean, job.std, job.labels) == (None, None, tuple(LETTERS))  # in its graph


@pytest.mark.parametrize(
    ("options", "fitted"),
    [
        ({}, "auto"),
        ({"labels": tuple("9876543210")}, "auto"),
        ({"labels": LETTERS}, "exact"),
        ({"labels": LETTERS, "preprocess": "fit"}, "fit"),
        ({"preprocess": "exact"}, "exact"),
    ],
)
def test_images_are_fitted_for_networks_of_digits(options: dict[str, Any], fitted: str) -> None:
    assert open_model(Job(["x"], model=own("Linear"), **options)).job.preprocess == fitted


def test_images_are_not_fitted_for_other_numbers_of_classes() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 26))
    found = open_model(Job(["x"], model=module))
    assert (found.job.preprocess, found.model.classes) == ("exact", 26)


PROCESSOR = {"size": 224, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def packaged_kind(folder: Path) -> Path:
    (folder / "CNN.pt").write_bytes(PACKAGED_WEIGHTS.read_bytes())
    return folder / "CNN.pt"


def test_what_a_file_declares_wrongly_is_its_fault_and_an_option_the_users(tmp_path: Path) -> None:
    model = packaged_kind(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    for options in ({}, {"transpose": True}):
        error = refused(model, **options)
        assert isinstance(error, CheckpointError)
        assert "--input-size 224 does not fit" in error.problem
        assert "preprocessor_config.json" in error.problem
    assert isinstance(refused(model, input_size=32), UsageError)


def test_files_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    (tmp_path / "model.toml").write_text("[input]\nchannels = 1\n")
    error = refused(packaged_kind(tmp_path))
    assert isinstance(error, CheckpointError)
    assert "model.toml and " in error.problem
    assert "preprocessor_config.json" in error.problem


def test_scores_that_a_file_declares_wrongly_are_its_fault(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('[input]\nscores = "probabilities"\n')
    options = {"network": network("Linear")}
    assert "model.toml" in refused(saved_weights(tmp_path), **options).problem
    (tmp_path / "model.toml").unlink()
    error = refused(tmp_path / "own.pt", scores="probabilities", **options)
    assert isinstance(error, UsageError)


def test_options_that_fit_no_network_are_wrong_usage_beside_files_too(tmp_path: Path) -> None:
    model = packaged_kind(tmp_path)
    (tmp_path / "model.toml").write_text('labels = ["a","b","c","d","e","f","g","h","i","j"]\n')
    error = refused(model, mean=(0.5, 0.4, 0.3), std=(0.5, 0.4, 0.3))
    assert isinstance(error, UsageError)


def test_class_name_without_a_class_is_wrong_usage(tmp_path: Path) -> None:
    path = saved_weights(tmp_path)
    error = refused(path, network=network("Linear"), class_name="Linear")
    assert isinstance(error, UsageError)
    assert error.problem == "--network names the class"
    batchdigit.convert_model(path, tmp_path / "own.onnx", network=network("Linear"))
    error = refused(tmp_path / "own.onnx", class_name="Linear")
    assert isinstance(error, UsageError)
    assert error.problem == "an ONNX file holds no class"


def test_range_alone_does_not_mix_units(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text("[input]\nmean = 0.5\nstd = 0.5\n")
    job = opened(saved_weights(tmp_path), range="0-255")
    assert (job.range, job.mean, job.std) == ("0-255", None, None)
