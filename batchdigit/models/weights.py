"""The CNN's weights from a model file, as arrays: no PyTorch, and no pickle that runs.

A file is first read as data (:mod:`batchdigit.modelfiles.scan`), and everything that it declares is
checked against the network (:mod:`batchdigit.models.check`). What is left to do is to take numbers
from bytes whose place has been checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.errors import BatchdigitError
from batchdigit.modelfiles.file import SAFETENSORS, ModelFile
from batchdigit.modelfiles.scan import SAFETENSORS_DTYPES, Buffer, Contents, scan
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.check import check_fit, check_globals
from batchdigit.models.network import COUNTER
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.models.statedict import LAST_WEIGHT, find_weights

BFLOAT16 = "bfloat16"  # which numpy does not have: the upper half of a float32


@dataclass(frozen=True, eq=False)
class Weights:
    """The state dict in a model file.

    ``kind`` says how it was saved (``state dict``, ``whole model __main__.CNN``, ...), ``format``
    in which file format. ``stored`` are its numbers as they are in the file, under the CNN's names
    and in the order of the file, bfloat16 as uint16; ``dtypes`` are their types. Where possible
    the arrays are views of the file's bytes, so copy one before you change it.
    """

    path: Path
    sha256: str
    format: str
    kind: str
    stored: Mapping[str, NDArray[Any]]
    dtypes: Mapping[str, str]

    @property
    def spec(self) -> InputSpec:
        """What the network takes and gives; the number of classes is that of the last layer."""
        return MNIST.with_classes(int(self.stored[LAST_WEIGHT].shape[0]))

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return self.spec.classes

    @cached_property
    def single(self) -> dict[str, NDArray[np.float32]]:
        """What the network computes with, float32, without what is used in training only."""
        return {
            name: as_single(array, self.dtypes[name])
            for name, array in self.stored.items()
            if not name.endswith(COUNTER)
        }


def read_weights(file: ModelFile, class_name: str | None = None) -> Weights:
    """The CNN whose weights ``file`` holds; see :func:`batchdigit.load_checkpoint`.

    Raises CheckpointError for a file that holds none and for values that no network has, and
    BatchdigitError where the package safetensors is missing.
    """
    return weights_in(file, scan(file), class_name)


def weights_in(file: ModelFile, contents: Contents, class_name: str | None) -> Weights:
    """The weights in a file that has been scanned."""
    check_globals(file, contents, class_name)
    found = find_weights(file, contents.root)
    declared = check_fit(file, found)
    weights = Weights(
        path=file.path,
        sha256=file.sha256,
        format=file.format,
        kind=found.kind,
        stored=stored_arrays(file, contents, declared),
        dtypes={name: tensor.dtype for name, tensor in declared.items()},
    )
    for name, array in weights.stored.items():
        if name.endswith(COUNTER) and not 0 <= float(array) < 1 << 53:
            raise file.refusal(f"holds no count in {name}", "train it again")
    check_finite(file, weights.single)
    for name, array in weights.single.items():
        if name.endswith("running_var") and (array < 0).any():
            raise file.refusal(f"holds a negative variance in {name}", "train it again")
    return weights


def stored_arrays(
    file: ModelFile, contents: Contents, declared: Mapping[str, StoredTensor]
) -> dict[str, NDArray[Any]]:
    """The numbers of the state dict that a file declares; its pickles must be known to be data."""
    storages = contents.storages
    if file.format == SAFETENSORS:
        storages = _safetensors_storages(file, declared.values())
    return {
        name: _array(tensor, storages[tensor.storage], contents.byteorder)
        for name, tensor in declared.items()
    }


def _array(tensor: StoredTensor, storage: Buffer, byteorder: str) -> NDArray[Any]:
    """The numbers of ``tensor``, read-only; the scan has made sure that they are there."""
    if not tensor.elements:  # its shape may be one that numpy cannot express
        return np.empty(0)
    dtype = np.dtype("uint16" if tensor.dtype == BFLOAT16 else tensor.dtype)
    numbers = np.frombuffer(storage, dtype.newbyteorder("<" if byteorder == "little" else ">"))
    strided = np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        tensor.shape,
        [stride * dtype.itemsize for stride in tensor.strides],
    )
    return strided.astype(dtype, order="C", copy=False)


def as_single(array: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """The same numbers as float32; one that is too large becomes infinite."""
    if dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def check_finite(file: ModelFile, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise CheckpointError unless every number is finite."""
    for name, array in arrays.items():
        if not all_finite(array):
            raise file.refusal(f"holds values that are not finite in {name}", "train it again")


def is_finite(array: NDArray[Any], dtype: str) -> bool:
    """Whether every number is finite in the precision that it is stored in."""
    return all_finite(as_single(array, dtype) if dtype == BFLOAT16 else array)


def all_finite(array: NDArray[Any]) -> bool:
    """Whether every number is finite."""
    # A sum takes a fraction of the time. It is finite only if every number is, but it can overflow,
    # so a sum that is not finite proves nothing.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def _safetensors_storages(file: ModelFile, declared: Iterable[StoredTensor]) -> dict[str, Buffer]:
    """The bytes of each tensor; the safetensors package checks that the header fits them."""
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError as error:
        raise BatchdigitError(
            f"reading {file.path} needs the package safetensors, which is not installed",
            "pip install safetensors",
        ) from error
    try:
        entries = dict(deserialize(file.data))  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise file.refusal("is damaged: its header does not fit its bytes") from error
    for tensor in declared:
        entry = entries.get(tensor.storage, {})
        dtype = SAFETENSORS_DTYPES.get(entry.get("dtype"))
        if (dtype, tuple(entry.get("shape", ()))) != (tensor.dtype, tensor.shape):
            raise file.refusal("is damaged: two ways of reading it disagree")
    return {name: memoryview(entry["data"]) for name, entry in entries.items()}
