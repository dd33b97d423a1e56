"""Strangers' networks as their authors have them: trained, saved, and used in a plain loop."""

import fcntl
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.strangers.catalogue import STRANGERS, Stranger
from tests.strangers.declared import declaration, network_input
from tests.strangers.source import Source

EPOCHS = 60  # at most
BATCH = 50
STATE_DICT, WHOLE, SAFETENSORS = "state dict", "whole", "safetensors"
OPSETS = (11, 13, 17, 18, 20, 21)
GRAPHS = (
    *(f"onnx {opset} dynamic" for opset in OPSETS),
    *("onnx 13 batch 1", "onnx 20 batch 1", "onnx 17 batch 8", "onnx 21 batch 8"),
)
FORMATS = (STATE_DICT, WHOLE, SAFETENSORS, *GRAPHS)
"""Ways to save a network; ``saved`` knows every opset with every size of batch."""


class _Kept:
    """Where trained weights are kept; unless somebody says so, until this process ends."""

    own = tempfile.TemporaryDirectory()
    folder = Path(own.name)


def keep_in(folder: Path) -> None:
    """Keep trained weights in ``folder``, which may be shared by processes."""
    _Kept.folder = folder
    folder.mkdir(exist_ok=True)


def formats_of(stranger: Stranger) -> tuple[str, ...]:
    """The ways in which a stranger may save its network."""
    return tuple(how for how in FORMATS if how.startswith("onnx") or not stranger.only_onnx)


def trained(stranger: Stranger) -> nn.Module:
    """A stranger's network in eval mode; not to be changed."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        return _trained(stranger.name)


@cache
def _trained(name: str) -> nn.Module:
    (stranger,) = (one for one in STRANGERS if one.name == name)
    weights = _Kept.folder / f"{name}.pt"
    model = _built(stranger)
    with weights.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not weights.exists():
            with _one_thread(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _train(stranger, model := _built(stranger))
            torch.save(model.state_dict(), weights)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


@cache
def source(path: Path) -> Source:
    return Source(path)


def _built(stranger: Stranger) -> nn.Module:
    definitions = source(stranger.path)
    make: Callable[..., Any] = definitions[stranger.cls]  # type: ignore[assignment]
    with definitions.running():
        return make(**(stranger.args or {}))


def _train(stranger: Stranger, model: nn.Module) -> None:
    images, labels = stranger.target()
    inputs_B, labels_B = network_input(declaration(stranger), images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=stranger.rate)
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(labels_B)).split(BATCH):
            optimizer.zero_grad()
            scores_BK = stranger.author_scores(model(inputs_B[rows]))
            stranger.loss(scores_BK, labels_B[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            guesses_B = stranger.author_scores(model(inputs_B)).argmax(1)
        if (guesses_B == labels_B).float().mean() >= stranger.enough:
            break


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def author_report(stranger: Stranger, images: list[Image.Image]) -> tuple[list[str], Tensor]:
    """What the author's own loop says of images: their labels, and probabilities [B, K]."""
    model = trained(stranger)
    labels, probabilities = [], []
    with torch.inference_mode(), _one_thread():
        for image in images:
            scores_1K = stranger.author_scores(model(stranger.author_input(image).unsqueeze(0)))
            labels.append(stranger.names[int(scores_1K.argmax(1))])
            probabilities.append(scores_1K[0])
    return labels, torch.stack(probabilities)


def pictures(stranger: Stranger, count: int) -> list[Image.Image]:
    """Some of the images that a network was trained on, of all its classes."""
    images, _ = stranger.target()
    return [Image.fromarray(images[place]) for place in places(len(images), count)]


def places(among: int, count: int) -> list[int]:
    """``count`` numbers below ``among``, spread evenly, but not in step with the ten digits."""
    return [int(place) for place in np.linspace(0, among - 1, count)]


def saved(stranger: Stranger, how: str, folder: Path) -> Path:
    """A stranger's network in a file in ``folder``, saved in one of the FORMATS."""
    model = trained(stranger)
    weights = {stranger.prefix + name: tensor for name, tensor in model.state_dict().items()}
    path = folder / stranger.name
    if how == STATE_DICT:
        path = path.with_suffix(".pt")
        torch.save(stranger.saves(weights), path)
    elif how == WHOLE:
        path = path.with_suffix(".pth")
        with source(stranger.path).running():
            torch.save(nn.DataParallel(model) if stranger.prefix == "module." else model, path)
    elif how == SAFETENSORS:
        path = path.with_suffix(".safetensors")
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    else:
        path = path.with_suffix(".onnx")
        _, opset, *batch = how.split()
        _export(stranger, path, int(opset), int(batch[1]) if batch[1:] else None)
    return path


def _export(stranger: Stranger, path: Path, opset: int, batch: int | None) -> None:
    """Write an .onnx file as the author would, for batches of ``batch`` or of any size."""
    images, _ = stranger.target()
    example = network_input(declaration(stranger), images[: batch or 2])
    names = {"input_names": ["input"], "output_names": ["output"]}
    if batch is None:
        names["dynamic_axes"] = {"input": {0: "batch"}, "output": {0: "batch"}}  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            trained(stranger), (example,), path, opset_version=opset, dynamo=False, **names
        )
