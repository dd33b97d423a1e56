"""A network's weights from a model file, as arrays: no PyTorch, and no pickle that runs.

A file is first read as data (:mod:`batchdigit.modelfiles.scan`), and everything that it declares is
checked against the network (:mod:`batchdigit.models.check`). What is left to do is to take numbers
from bytes whose place has been checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchdigit.errors import BatchdigitError, CheckpointError
from batchdigit.modelfiles.declaration import Declaration
from batchdigit.modelfiles.file import SAFETENSORS, ModelFile
from batchdigit.modelfiles.scan import SAFETENSORS_DTYPES, Buffer, Contents
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.check import Checked, Search, check_weights
from batchdigit.models.network import CONV, COUNTER, LINEAR, Layer, cnn, cnn_input
from batchdigit.models.programs import scanned
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.models.statedict import LAST_WEIGHT, State, carried_normalisation, few
from batchdigit.models.wanted import THE_CNN, Wanted

BFLOAT16 = "bfloat16"  # which numpy does not have: the upper half of a float32
NUMBERS_AT_ONCE = 1 << 20  # bounds the memory that looking at them takes

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Weights:
    """The state dict in a model file.

    ``kind`` says how it was saved (``state dict``, ``whole model __main__.CNN``, ...), ``format``
    in which file format. ``stored`` are its numbers as they are in the file, under the network's
    names and in the order of the file, bfloat16 as uint16; ``dtypes`` are their types. Where
    possible the arrays are views of the file's bytes, so copy one before you change it. ``input``
    is how images are given to the network, if it is the packaged one. ``carried`` is a mean and a
    deviation that a whole model holds as attributes; its ``forward`` may have applied them, but
    nothing does here. ``key`` says which of several models in the file these are (``ema.model``),
    and is empty where there is no choice.
    ``unknown`` are the classes and functions beside the weights that are no known data types.
    """

    path: Path
    sha256: str
    format: str
    kind: str
    stored: Mapping[str, NDArray[Any]]
    dtypes: Mapping[str, str]
    input: InputSpec = MNIST
    carried: tuple[float, float] | None = None
    key: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What tells these weights from others: the file's SHA-256, and the key if there is one."""
        return f"{self.sha256} {self.key}" if self.key else self.sha256

    @property
    def spec(self) -> InputSpec:
        """What the CNN takes and gives; the number of classes is that of the last layer."""
        return self.input.with_classes(int(self.stored[LAST_WEIGHT].shape[0]))

    def declared(self, declaration: Declaration) -> Weights:
        """The same, declared to take images like this. Raises UsageError for what the CNN can't."""
        return replace(self, input=cnn_input(declaration))

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

    @cached_property
    def counts(self) -> dict[str, float]:
        """How many batches each BatchNorm has seen in training, of those that say so."""
        return {
            name: float(as_single(array, BFLOAT16) if self.dtypes[name] == BFLOAT16 else array)
            for name, array in self.stored.items()
            if name.endswith(COUNTER)
        }

    @cached_property
    def folded(self) -> Arrays:
        """The same without BatchNorm, which is folded into the convolution before it."""
        return fold_batchnorm(cnn(self.spec), self.single, np.float64)


def read_weights(
    file: ModelFile,
    class_name: str | None = None,
    key: str | None = None,
    wanted: Wanted = THE_CNN,
) -> Weights:
    """The weights of the CNN, or of the network ``wanted``, that ``file`` holds.

    See :func:`batchdigit.load_checkpoint`. Raises CheckpointError for a file that holds none and
    for values that no network has, and BatchdigitError where the package safetensors is missing.
    """
    with file.refused_if_it_fails():
        contents = scanned(file, wanted)
        search = Search.of(contents, class_name, wanted)
        return weights_of(file, contents, checked(file, search, key))


def unknown_names(path: Path, names: Iterable[str]) -> str:
    """The warning of what a file names that is no known data type."""
    return (
        f"the model {path} also names {few(names)}, which this program does not know as data; "
        "nothing of it was called, but be sure of where the file comes from"
    )


def checked(file: ModelFile, search: Search, key: str | None) -> Checked:
    """The weights that were found, before any number of them is looked at."""
    return check_weights(file, search, key, partial(_same_numbers, file, search.contents))


def weights_of(file: ModelFile, contents: Contents, found: Checked) -> Weights:
    """The weights that have been checked; raises CheckpointError for impossible numbers."""
    declared = found.state
    weights = Weights(
        path=file.path,
        sha256=file.sha256,
        format=file.format,
        kind=found.chosen.weights.kind,
        stored={
            name: array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
            for name, array in stored(file, contents, declared)
        },
        dtypes={name: tensor.dtype for name, tensor in declared.items()},
        carried=carried_normalisation(found.chosen.weights),
        key=found.chosen.key,
        unknown=found.unknown,
    )
    if found.wanted.is_own:
        floating = {name for name, dtype in weights.dtypes.items() if "float" in dtype}
        single = {name: as_single(weights.stored[name], weights.dtypes[name]) for name in floating}
        check_finite(file.path, single)
        return weights
    for name, count in weights.counts.items():
        if not 0 <= count < 1 << 53:
            raise file.refusal(f"holds no count in {name}", "train it again")
    check_finite(file.path, weights.single)
    for name, array in weights.single.items():
        if name.endswith("running_var") and (array < 0).any():
            raise file.refusal(f"holds a negative variance in {name}", "train it again")
    # ONNX files are folded in float64; PyTorch folds in float32, where less is finite.
    check_finite(file.path, weights.folded)
    check_finite(file.path, fold_batchnorm(cnn(weights.spec), weights.single, np.float32))
    return weights


def fold_input(weights: Weights) -> Weights:
    """The same network for pixels from 0 to 1: what they become is in its first convolution.

    With mean μ and deviation σ of such pixels, which may be negative (InputSpec.normalisation):
    W' = W/σ, b' = b - ΣW·μ/σ, for each channel, computed in float64. That is exact, because the
    convolution has no padding: zeros around the image would not be (0 - μ)/σ. What changes is
    stored in single precision, if not in double.
    """
    spec = weights.spec
    first = next(name for name, layer in cnn(spec).leaves() if layer.kind == CONV)
    stored, dtypes = dict(weights.stored), dict(weights.dtypes)
    weight, bias = (
        as_double(stored[name], dtypes[name]) for name in (f"{first}.weight", f"{first}.bias")
    )
    mean_C, std_C = (np.array(numbers)[:, None, None] for numbers in spec.normalisation)
    folded = {
        f"{first}.weight": weight / std_C,
        f"{first}.bias": bias - (weight * mean_C / std_C).sum(axis=(1, 2, 3)),
    }
    for name, array in folded.items():
        dtypes[name] = "float64" if dtypes[name] == "float64" else "float32"
        with np.errstate(over="ignore"):
            stored[name] = array.astype(dtypes[name])
    return replace(weights, stored=stored, dtypes=dtypes, input=MNIST)


def fold_batchnorm(network: Layer, arrays: Arrays, precision: type[np.floating[Any]]) -> Arrays:
    """The weights of ``network``, its BatchNorm folded into the convolution before it.

    W' = W·γ/√(σ²+ε), b' = (b-μ)·γ/√(σ²+ε) + β, computed in ``precision``. What is too large becomes
    infinite or not a number.
    """
    layers = dict(network.leaves())
    folded: dict[str, NDArray[np.float32]] = {}
    for name, layer in layers.items():
        weight, bias = f"{name}.weight", f"{name}.bias"
        if layer.kind == LINEAR:
            folded |= {weight: arrays[weight], bias: arrays[bias]}
        elif layer.kind == CONV:
            batchnorm = f"{name.rpartition('.')[0]}.1"
            parts = ("weight", "bias", "running_mean", "running_var")
            gamma, beta, mean, variance = (
                arrays[f"{batchnorm}.{part}"].astype(precision) for part in parts
            )
            with np.errstate(over="ignore", invalid="ignore"):
                scale = gamma / np.sqrt(variance + precision(layers[batchnorm].settings["eps"]))
                folded[weight] = (arrays[weight] * scale[:, None, None, None]).astype(np.float32)
                folded[bias] = ((arrays[bias] - mean) * scale + beta).astype(np.float32)
    return folded


def stored(
    file: ModelFile, contents: Contents, declared: Mapping[str, StoredTensor]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The numbers of the state dict that a file declares; its pickles must be known to be data."""
    storages = contents.storages
    if file.format == SAFETENSORS:
        storages = _safetensors_storages(file, declared.values())
    for name, tensor in declared.items():
        yield name, _array(tensor, storages[tensor.storage], contents.byteorder)


def _same_numbers(file: ModelFile, contents: Contents, one: State, other: State) -> bool:
    """Whether two state dicts that fit the network hold the same numbers, in the same types."""
    return all(
        one[name].dtype == other[name].dtype and array.tobytes() == again.tobytes()
        for (name, array), (_, again) in zip(
            stored(file, contents, one), stored(file, contents, other), strict=True
        )
    )


def _array(tensor: StoredTensor, storage: Buffer, byteorder: str) -> NDArray[Any]:
    """The numbers of ``tensor`` where they are, read-only; the scan has made sure of that."""
    if not tensor.elements:  # its shape may be one that numpy cannot express
        return np.empty(0)
    dtype = np.dtype("uint16" if tensor.dtype == BFLOAT16 else tensor.dtype)
    numbers = np.frombuffer(storage, dtype.newbyteorder("<" if byteorder == "little" else ">"))
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        tensor.shape,
        [stride * dtype.itemsize for stride in tensor.strides],
    )


def as_single(array: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """The same numbers as float32; one that is too large becomes infinite."""
    if dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def as_double(array: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """The same numbers as float64."""
    return (as_single(array, dtype) if dtype == BFLOAT16 else array).astype(np.float64)


def check_finite(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise CheckpointError unless every number is finite; ``path`` is the model file."""
    for name, array in arrays.items():
        if not all_finite(array):
            raise CheckpointError(
                f"the model {path} holds values that are not finite in {name}", "train it again"
            )


def is_finite(array: NDArray[Any], dtype: str) -> bool:
    """Whether every number is finite in the precision that it is stored in, of type ``dtype``."""
    # A tensor of any size, in any order of bytes and elements, takes little memory in parts.
    parts: Any = np.nditer(
        array,
        ["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=[array.dtype.newbyteorder("=")],
        buffersize=NUMBERS_AT_ONCE,
    )
    return all(all_finite(as_single(part, dtype) if dtype == BFLOAT16 else part) for part in parts)


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
