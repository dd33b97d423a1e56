"""Model files: the CNN's weights out of every way in which a ``CNN.pt`` is saved.

A file is first read as data (:mod:`batchdigit.modelscan`), and everything that it declares is
held against the network. Only then does a loader get it: ``torch.load`` with
``weights_only=True``, or the safetensors package. Of a whole pickled model the loader makes inert
stand-ins: the weights are taken out of them, and the network is always the CNN of this package.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batchdigit.errors import BatchdigitError
from batchdigit.model import CNN
from batchdigit.modelfile import OLD_FORMAT, SAFETENSORS, ModelFile, read_model_file
from batchdigit.modelscan import CLASS_WITHOUT_SOURCE, Contents, scan
from batchdigit.pickled import stand_in
from batchdigit.statedict import LAST_WEIGHT, check_fit, check_globals, find_weights, state_of
from batchdigit.storedtensor import TENSOR_DATA

# torch's list of safe globals and Python's of warnings are those of the whole process.
_LOADING = threading.Lock()


@dataclass(frozen=True)
class Checkpoint:
    """A model in ``eval()`` mode on the CPU, and where it came from.

    ``kind`` says how the weights were saved (``state dict``, ``whole model __main__.CNN``, ...),
    ``format`` in which file format. ``state`` holds them as saved, in their own precision, under
    the CNN's names.
    """

    model: CNN
    path: Path
    sha256: str
    format: str
    kind: str
    state: Mapping[str, torch.Tensor]

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return int(self.model.fc[-1].out_features)  # type: ignore[arg-type]


def load_checkpoint(path: str | os.PathLike[str], class_name: str | None = None) -> Checkpoint:
    """The CNN whose weights ``path`` holds.

    Read are a state dict and a whole pickled model, by ``torch.save`` of any version, and a state
    dict in safetensors; also within a dictionary, under one of ``statedict.NESTING_KEYS``; with
    the prefixes of ``statedict.PREFIXES``; in half, single or double precision; from any device.
    A whole model's class must be called ``CNN``, in whatever module, or ``class_name`` (with or
    without its module). The number of classes, 1 to 1000, is that of the last layer.

    Nothing in the file is executed or imported, whatever it is and whatever the environment says.

    Raises CheckpointError for every other file; BatchdigitError where safetensors is missing.
    """
    file = read_model_file(Path(path))
    return load_contents(file, scan(file), class_name)


def load_contents(file: ModelFile, contents: Contents, class_name: str | None) -> Checkpoint:
    """The model in a file that has been scanned; see :func:`load_checkpoint`."""
    check_globals(file, contents, class_name)
    weights = find_weights(file, contents.root)
    check_fit(file, weights)
    tensors = load_tensors(file, contents)
    return Checkpoint(
        model=_build(file, tensors),
        path=file.path,
        sha256=file.sha256,
        format=file.format,
        kind=weights.kind,
        state=tensors,
    )


def load_tensors(file: ModelFile, contents: Contents) -> dict[str, torch.Tensor]:
    """The state dict in a file whose pickles :func:`check_globals` has found to be data."""
    declared = state_of(find_weights(file, contents.root))
    loaded = state_of(find_weights(file, _load(file, contents)))
    tensors = {name: tensor.detach() for name, tensor in loaded.items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != {
        name: tensor.shape for name, tensor in declared.items()
    }:
        raise file.refusal("is damaged: two ways of reading it disagree")
    return tensors


def _load(file: ModelFile, contents: Contents) -> Any:
    if file.format == SAFETENSORS:
        return _load_safetensors(file)
    replaced: list[Any] = [
        (stand_in(name), name) for name in contents.globals if name not in TENSOR_DATA
    ]
    if file.format == OLD_FORMAT:
        replaced.append((lambda _kind, stored_class, *_source: stored_class, CLASS_WITHOUT_SOURCE))
    try:
        with _LOADING, torch.serialization.safe_globals(replaced), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(contents.loadable), map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's words are not passed on: some advise to load the file unsafely.
        raise file.refusal("is damaged: PyTorch cannot read it") from error


def _load_safetensors(file: ModelFile) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise BatchdigitError(
            f"reading {file.path} takes the package safetensors, which is not installed",
            "pip install safetensors",
        ) from error
    try:
        return dict(load(file.data))
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise file.refusal("is damaged: its header does not fit its bytes") from error


def _build(file: ModelFile, tensors: Mapping[str, torch.Tensor]) -> CNN:
    """The CNN in single precision; raises CheckpointError for values that no network has."""
    with torch.device("meta"):  # neither memory nor random numbers for weights that are replaced
        model = CNN(tensors[LAST_WEIGHT].shape[0])
    state = {}
    for name, blank in model.state_dict().items():
        tensor = tensors.get(name, torch.zeros((), device="cpu"))  # only a counter may be missing
        state[name] = tensor.to(blank.dtype, copy=True).contiguous()
        if not bool(torch.isfinite(state[name]).all()):
            raise file.refusal(f"holds values that are not finite in {name}", "train it again")
        if name.endswith("running_var") and bool((state[name] < 0).any()):
            raise file.refusal(f"holds a negative variance in {name}", "train it again")
    model.load_state_dict(state, assign=True)
    return model.eval()
