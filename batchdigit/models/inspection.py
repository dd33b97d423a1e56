"""What a model file is and what it holds, without running anything in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from batchdigit.errors import CheckpointError, one_line
from batchdigit.modelfiles.file import ONNX, SAVE_ANEW, ModelFile, read_model_file
from batchdigit.modelfiles.limits import MAX_TENSORS
from batchdigit.modelfiles.scan import Contents
from batchdigit.modelfiles.standins import Instance
from batchdigit.modelfiles.tensors import DTYPES, StoredTensor
from batchdigit.models.check import UNKNOWN, Search
from batchdigit.models.network import BUFFERS
from batchdigit.models.onnx_file import read_onnx_file
from batchdigit.models.programs import scanned
from batchdigit.models.statedict import few, is_tensor, state_of
from batchdigit.models.wanted import THE_CNN, Wanted
from batchdigit.models.weights import checked, is_finite, stored, weights_of
from batchdigit.system.paths import as_path

MAX_DEPTH = 40  # an object and its state are two
ELEMENT_BYTES = dict(DTYPES.values())
UNNAMED = ("_parameters", "_buffers", "_modules")  # which the names of tensors leave out


@dataclass(frozen=True)
class Inspection:
    """What is known of a model file.

    ``kind`` is how its weights are saved; it is empty where none were found. ``keys`` lead to them,
    where there are several: what ``key`` may choose from. ``tensors`` are all
    that it declares, by the path that leads to each. ``finite`` is None where the numbers were
    not looked at, because the file is damaged or may hold more than data. ``globals`` are the
    classes and functions that its pickles name, each with the role that it has here, empty for one
    that is refused. ``inputs``, ``outputs`` and ``operators`` are those of an ONNX graph.
    ``checksums`` says whether the file has any; they were right. A run would take
    the file unless there is a ``problem``.
    """

    path: str
    size: int
    sha256: str
    format: str
    kind: str = ""
    keys: tuple[str, ...] = ()
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    classes: int | None = None
    finite: bool | None = None
    globals: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    operators: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    checksums: bool = False
    problem: str = ""
    remedy: str = ""

    @property
    def usable(self) -> bool:
        """Whether a run would take it."""
        return not self.problem

    @property
    def unknown(self) -> tuple[str, ...]:
        """What it names beside the weights that is no known data type."""
        return tuple(name for name, role in self.globals.items() if role == UNKNOWN)

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together, without what BatchNorm only counts and averages."""
        return sum(
            tensor.elements for name, tensor in self.tensors.items() if not name.endswith(BUFFERS)
        )

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON data."""
        tensors = [
            {"name": name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
            for name, tensor in self.tensors.items()
        ]
        return {
            **asdict(self),
            "usable": self.usable,
            "parameters": self.parameters,
            "tensors": tensors,
        }


def inspect_model(
    path: str | os.PathLike[str], class_name: str | None = None, key: str | None = None
) -> Inspection:
    """Look into the model file ``path``; nothing in it is executed or imported.

    ``class_name`` and ``key`` mean what they mean to :func:`batchdigit.load_checkpoint`. Raises
    CheckpointError only for a file that cannot be read at all; whatever else is wrong is part of
    the result.
    """
    return inspect_file(read_model_file(as_path("the model", path)), class_name, key)


def inspect_file(
    file: ModelFile,
    class_name: str | None = None,
    key: str | None = None,
    wanted: Wanted = THE_CNN,
) -> Inspection:
    """The same for a model file that has been read; ``wanted`` is the network that it may hold."""
    known: dict[str, Any] = {
        "path": str(file.path),
        "size": len(file.data),
        "sha256": file.sha256,
        "format": file.format,
    }
    try:
        with file.refused_if_it_fails():
            _look_into(file, class_name, key, known, wanted)
    except CheckpointError as error:
        known |= {"problem": error.problem, "remedy": error.remedy}
    return Inspection(**known)


def _look_into(
    file: ModelFile,
    class_name: str | None,
    key: str | None,
    known: dict[str, Any],
    wanted: Wanted,
) -> None:
    """Add to what is ``known``, until CheckpointError says what is wrong."""
    if file.format == ONNX:
        known.update(_onnx_facts(file, key))
        return
    contents = scanned(file, wanted)
    search = Search.of(contents, class_name, wanted)
    places = list(itertools.islice(_tensors(contents.root), MAX_TENSORS + 1))
    known.update(
        tensors=dict(places[:MAX_TENSORS]),
        globals=dict(search.roles),
        metadata=contents.metadata,
        checksums=contents.checksums,
    )
    if len(places) > MAX_TENSORS:
        raise file.refusal(f"names more than {MAX_TENSORS} tensors", SAVE_ANEW)
    known["kind"] = few(weights.kind for weights in search.found)
    if len(search.found) > 1:
        known["keys"] = tuple(weights.key for weights in search.found)
    try:
        found = checked(file, search, key)
    except CheckpointError:
        if search.guess and not contents.excess and all(search.roles.values()):
            known["finite"] = _is_finite(file, contents, state_of(search.guess))
        raise
    known["finite"] = _is_finite(file, contents, found.state)
    weights = weights_of(file, contents, found)
    known.update(kind=weights.kind, classes=None if wanted.is_own else weights.classes)


def _onnx_facts(file: ModelFile, key: str | None) -> dict[str, Any]:
    """What is in an ONNX file. Raises CheckpointError for one that is refused."""
    if key is not None:
        raise file.refusal("is an ONNX file, which holds one model", "leave the key out")
    found = read_onnx_file(file)
    (output, *others) = found.outputs
    last = output.shape[-1] if output.shape and not others else None
    return {
        "kind": f"ONNX graph by {found.producer or 'an unknown program'}",
        "tensors": dict(found.initializers),
        "classes": last if isinstance(last, int) else None,
        "inputs": tuple(value.text for value in found.inputs),
        "outputs": tuple(value.text for value in found.outputs),
        "operators": dict(found.operators),
        "metadata": found.metadata
        | {
            f"opset {domain or 'ai.onnx'}": str(version) for domain, version in found.opsets.items()
        },
    }


def _is_finite(file: ModelFile, contents: Contents, state: Mapping[str, Any]) -> bool | None:
    """Whether all weights are finite; None where finding out takes more work than it is worth."""
    declared = {name: tensor for name, tensor in state.items() if is_tensor(tensor)}
    if not {tensor.dtype for tensor in declared.values()} <= ELEMENT_BYTES.keys():
        return None
    numbers = sum(tensor.elements * ELEMENT_BYTES[tensor.dtype] for tensor in declared.values())
    if numbers > len(file.data):
        return None  # the same numbers have many names
    return all(
        is_finite(array, declared[name].dtype) for name, array in stored(file, contents, declared)
    )


def _tensors(root: Any) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor in a tree by the path to it, each place in the tree once."""
    path: list[tuple[object, ...]] = []
    levels: list[Iterator[tuple[tuple[object, ...], Any]]] = [iter([((), root)])]
    seen: set[int] = set()
    while levels:
        step, node = next(levels[-1], (None, None))
        if step is None:
            levels.pop()
            del path[len(levels) - 1 :]
        elif isinstance(node, StoredTensor):
            yield ".".join(map(_shown, itertools.chain(*path, step))), node
        elif id(node) not in seen and len(levels) < MAX_DEPTH:
            seen.add(id(node))
            path.append(step)
            levels.append(_parts(node))


def _parts(node: Any) -> Iterator[tuple[tuple[object, ...], Any]]:
    if isinstance(node, Instance):
        yield (), node.state
        yield from (((place,), part) for place, part in enumerate(node.args))
    elif isinstance(node, Mapping):
        for key, part in node.items():
            yield (() if key in UNNAMED else (key,)), part
    elif isinstance(node, list | tuple):
        yield from (((place,), part) for place, part in enumerate(node))


def _shown(key: object) -> str:
    """A key as part of a path, cut short because it occurs in the path of each of its items."""
    return one_line(str(key), 100)
