"""Strangers' networks do what their authors say, and can be saved in every way."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.strangers.catalogue import STRANGERS, Stranger
from tests.strangers.declared import declaration, network_input
from tests.strangers.reporting import toml, traces
from tests.strangers.source import Source
from tests.strangers.trained import (
    GRAPHS,
    SAFETENSORS,
    STATE_DICT,
    WHOLE,
    author_report,
    formats_of,
    pictures,
    places,
    saved,
    source,
    trained,
)

strangers = pytest.mark.parametrize("stranger", STRANGERS, ids=str)


def test_names_tell_strangers_apart() -> None:
    names = [stranger.name for stranger in STRANGERS]
    assert len(set(names)) == len(names) >= 34


@strangers
def test_definitions_are_used_without_their_program(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = traces()
    assert Source(stranger.path)[stranger.cls]
    assert traces() == before
    assert not list(tmp_path.iterdir())


@strangers
def test_authors_loop_reads_what_its_network_was_trained_on(stranger: Stranger) -> None:
    images, classes = stranger.target()
    labels, probabilities = author_report(stranger, pictures(stranger, 150))
    wanted = [stranger.names[classes[place]] for place in places(len(images), 150)]
    assert np.mean([label == right for label, right in zip(labels, wanted, strict=True)]) >= 0.8
    assert probabilities.shape == (150, stranger.classes)
    assert set(wanted) == set(stranger.names)
    assert ((probabilities >= 0) & (probabilities <= 1.00001)).all()


@strangers
def test_declaration_gives_what_the_authors_transform_gives(stranger: Stranger) -> None:
    images, _ = stranger.target()
    images = images[places(len(images), 20)]
    by_author = torch.stack([stranger.author_input(Image.fromarray(image)) for image in images])
    declared = network_input(declaration(stranger), images)
    assert declared.shape == by_author.shape
    torch.testing.assert_close(declared, by_author, rtol=0, atol=2e-6)


def test_toml_says_what_it_was_made_of() -> None:
    content = {"input": {"size": [32, 32], "mean": [0.5], "transpose": True}, "fit": "exact"}
    text = """fit = "exact"\n\n[input]\nsize = [32, 32]\nmean = [0.5]\ntranspose = true\n"""
    assert toml(content) == text


@strangers
def test_at_most_three_options_declare_an_input_unless_a_file_does(stranger: Stranger) -> None:
    assert (stranger.flags is None) != (stranger.model_toml is None)
    assert len(stranger.flags or {}) <= 3
    assert stranger.labels is None or len(stranger.labels) == stranger.classes


@strangers
def test_weights_are_saved_with_what_their_author_saves(stranger: Stranger, tmp_path: Path) -> None:
    if stranger.only_onnx:
        assert formats_of(stranger) == GRAPHS
        return
    weights = trained(stranger).state_dict()
    content = torch.load(saved(stranger, STATE_DICT, tmp_path), weights_only=True)
    for key in ("model_state_dict", "state_dict", "net", "model"):
        content = content.get(key, content)
    assert content.keys() == {stranger.prefix + name for name in weights}
    with source(stranger.path).running():
        whole = torch.load(saved(stranger, WHOLE, tmp_path), weights_only=False)
    assert next(iter(whole.state_dict().values())).equal(next(iter(weights.values())))
    assert saved(stranger, SAFETENSORS, tmp_path).stat().st_size > 4 * sum(
        tensor.numel() for tensor in weights.values()
    )


def check_graph(stranger: Stranger, how: str, folder: Path) -> None:
    """An exported network is of the opset and the batch that were asked for, and agrees."""
    path = saved(stranger, how, folder)
    _, opset, *batch = how.split()
    model = onnx.load(path)
    (imported,) = (one.version for one in model.opset_import if not one.domain)
    assert imported == int(opset)
    dimension = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert dimension.dim_param or str(dimension.dim_value) == batch[1]
    images, _ = stranger.target()
    inputs = network_input(declaration(stranger), images[: dimension.dim_value or 5])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (first, *_) = session.run(None, {"input": inputs.numpy()})
    with torch.inference_mode():
        expected = trained(stranger)(inputs)
    if isinstance(expected, dict):
        expected = expected["logits"]
    elif isinstance(expected, tuple):
        expected = expected[0]
    np.testing.assert_allclose(first, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("stranger", "how"),
    [(one, GRAPHS[number % len(GRAPHS)]) for number, one in enumerate(STRANGERS)],
    ids=str,
)
def test_export_agrees_with_the_network(stranger: Stranger, how: str, tmp_path: Path) -> None:
    check_graph(stranger, how, tmp_path)


@pytest.mark.slow
@strangers
@pytest.mark.parametrize("how", GRAPHS)
def test_every_export_agrees_with_the_network(stranger: Stranger, how: str, tmp_path: Path) -> None:
    check_graph(stranger, how, tmp_path)
