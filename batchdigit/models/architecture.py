"""Another network in a line, from the names and shapes of its state dict alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from batchdigit.errors import one_line
from batchdigit.modelfiles.tensors import StoredTensor

MAX_LAYERS = 8
MAX_NAME = 40  # characters

_CONVOLUTIONS = {3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}  # by the dimensions of the weight


def layers_in_a_line(state: Mapping[str, StoredTensor]) -> str:
    """The first layers as ``conv1 Conv2d 1→32 3×3, fc1 Linear 9216→128``, and how many more.

    A layer is what the names before the last dot have in common.
    """
    layers: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in state.items():
        layer, _, last = str(name).rpartition(".")
        layers.setdefault(layer, {})[last] = tensor
    shown = itertools.islice(layers.items(), MAX_LAYERS)
    line = ", ".join(
        f"{one_line(name, MAX_NAME)} {_layer(parts)}".lstrip() for name, parts in shown
    )
    more = len(layers) - MAX_LAYERS
    return f"{line} and {more} more" if more > 0 else line


def _layer(tensors: Mapping[str, StoredTensor]) -> str:
    weight = tensors.get("weight")
    if weight is None:
        count = len(tensors)
        return "1 tensor" if count == 1 else f"{count} tensors"
    shape = weight.shape
    if len(shape) == 1:
        return f"{'BatchNorm' if 'running_mean' in tensors else 'Norm'} {shape[0]}"
    if len(shape) == 2:
        return f"Linear {shape[1]}→{shape[0]}"
    if (kind := _CONVOLUTIONS.get(len(shape))) is None:
        return f"weight of {len(shape)} dimensions"
    return f"{kind} {shape[1]}→{shape[0]} {'×'.join(map(str, shape[2:]))}"
