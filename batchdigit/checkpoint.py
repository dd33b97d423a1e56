"""Model files: the CNN's weights out of every way in which a ``CNN.pt`` is saved.

A file is first read as data (:mod:`batchdigit.modelscan`), and everything that it declares is
held against the network. Of what torch saved, a state dict is then written anew for ``torch.load``
with ``weights_only=True``; a safetensors file goes to the safetensors package. The network is
always the CNN of this package.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from batchdigit.errors import BatchdigitError
from batchdigit.model import CNN
from batchdigit.modelfile import SAFETENSORS, ModelFile, read_model_file
from batchdigit.modelscan import Contents, scan
from batchdigit.statearchive import write_state_archive
from batchdigit.statedict import LAST_WEIGHT, check_fit, check_globals, find_weights, state_of
from batchdigit.storedtensor import StoredTensor


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
    if file.format == SAFETENSORS:
        loaded = state_of(find_weights(file, _load_safetensors(file)))
    else:
        archive = write_state_archive(declared, contents.storages, contents.byteorder)
        loaded = _load_archive(file, archive)
    tensors = {name: tensor.detach() for name, tensor in loaded.items()}
    if {name: _described(tensor) for name, tensor in tensors.items()} != declared:
        raise file.refusal("is damaged: two ways of reading it disagree")
    return tensors


def _described(tensor: torch.Tensor) -> StoredTensor:
    return StoredTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _load_archive(file: ModelFile, archive: bytes) -> dict[str, torch.Tensor]:
    try:
        # ``mmap`` is given because torch has a setting for its default, for file names only.
        state: dict[str, torch.Tensor] = torch.load(
            io.BytesIO(archive), map_location="cpu", weights_only=True, mmap=False
        )
    except Exception as error:
        # torch's words are not passed on: some advise to load the file unsafely.
        raise file.refusal("is damaged: PyTorch cannot read it") from error
    return state


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
        model = CNN(tensors[LAST_WEIGHT].shape[0]).float()  # whatever torch's default is
    state = {}
    for name, blank in model.state_dict().items():
        tensor = tensors.get(name, torch.zeros((), device="cpu"))  # only a counter may be missing
        state[name] = tensor.to(blank.dtype, copy=True).contiguous()
        if not is_finite(state[name]):
            raise file.refusal(f"holds values that are not finite in {name}", "train it again")
        if name.endswith("running_var") and bool((state[name] < 0).any()):
            raise file.refusal(f"holds a negative variance in {name}", "train it again")
    model.load_state_dict(state, assign=True)
    return model.eval()


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every number is."""
    # A sum takes a tenth of the time. It is finite only if every number is; it can also overflow.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())
