"""Model files as PyTorch's network, however their weights were saved.

The network is always the CNN of this package.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch

from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.cnn import CNN
from batchdigit.models.spec import InputSpec
from batchdigit.models.weights import BFLOAT16, Weights, read_weights, unknown_names
from batchdigit.system.paths import as_path

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A model in ``eval()`` mode on the CPU, and where it came from.

    ``kind`` says how the weights were saved (``state dict``, ``whole model __main__.CNN``, ...),
    ``format`` in which file format.
    """

    model: CNN
    weights: Weights
    source: ClassVar[str] = ""  # of the network's code, which is that of this package
    adds_up: ClassVar[bool] = True  # as probabilities by softmax do

    @property
    def path(self) -> Path:
        """The model file."""
        return self.weights.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return self.weights.sha256

    @property
    def key(self) -> str:
        """Which of several models in the file it is; empty where there is no choice."""
        return self.weights.key

    @property
    def unknown(self) -> tuple[str, ...]:
        """What the file names beside the weights that is not known as data."""
        return self.weights.unknown

    @property
    def identity(self) -> str:
        """What tells these weights from others: the file's SHA-256, and the key if there is one."""
        return self.weights.identity

    @property
    def format(self) -> str:
        """In which file format the weights were saved."""
        return self.weights.format

    @property
    def kind(self) -> str:
        """How the weights were saved."""
        return self.weights.kind

    @property
    def spec(self) -> InputSpec:
        """What the model takes and gives, with its own number of classes."""
        return self.weights.spec

    @property
    def carried(self) -> tuple[float, float] | None:
        """A mean and a deviation that a whole model holds as attributes; nothing applies them."""
        return self.weights.carried

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return self.spec.classes

    @cached_property
    def state(self) -> Mapping[str, torch.Tensor]:
        """The weights as saved, in their own precision, under the CNN's names."""
        return tensors_of(self.weights)


def tensors_of(weights: Weights) -> dict[str, torch.Tensor]:
    """Weights as tensors with memory of their own, in their own precision."""
    return {
        name: torch.from_numpy(array.copy()).view(getattr(torch, weights.dtypes[name]))
        if weights.dtypes[name] == BFLOAT16
        else torch.from_numpy(array.copy())
        for name, array in weights.stored.items()
    }


def load_checkpoint(
    path: str | os.PathLike[str], class_name: str | None = None, key: str | None = None
) -> Checkpoint:
    """The CNN whose weights ``path`` holds.

    It reads a state dict and a whole pickled model, by ``torch.save`` of any version, and a state
    dict in safetensors. The weights may lie in any nesting of dictionaries, their names may have a
    prefix (``model.``), they may be in half, single or double precision, and come from any device.
    If several places hold weights that differ, ``key`` says which to take: the keys that lead
    there, with dots (``state_dict_ema``, ``ema.model``). A whole model's class must be called
    ``CNN``, in whatever module, or ``class_name`` (with or without its module). The number of
    classes, 1 to 1000, is that of the last layer.

    Nothing in the file is executed or imported, whatever it is and whatever the environment says.
    The logger ``batchdigit`` warns if the file names what is not known as data.

    Raises CheckpointError for every other file, and BatchdigitError where safetensors is missing.
    """
    weights = read_weights(read_model_file(as_path("the model", path)), class_name, key)
    if weights.unknown:
        _LOG.warning("%s", unknown_names(weights.path, weights.unknown))
    return Checkpoint(build_model(weights), weights)


def build_model(weights: Weights) -> CNN:
    """The CNN with these weights, in single precision and in ``eval()`` mode."""
    # On "meta", weights that are replaced anyway take neither memory nor random numbers.
    with torch.device("meta"):
        model = CNN(spec=weights.spec).float()  # whatever torch's default is
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.single.items()}
    for name in model.state_dict().keys() - state.keys():  # counters, which may be missing
        state[name] = torch.tensor(int(weights.counts.get(name, 0)), device="cpu")
    model.load_state_dict(state, assign=True)
    return model.eval()
