"""Programs in PyTorch's archives, which are refused: which network they hold, and what helps.

TorchScript's archive has a pickle of the module, whose attributes are its parts and its tensors.
That of torch.export lists its tensors as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.archive import EXPORTED, ProgramError
from batchdigit.modelfiles.file import MAX_HEADER_BYTES, ModelFile
from batchdigit.modelfiles.limits import PickleError
from batchdigit.modelfiles.pickled import read_pickle
from batchdigit.modelfiles.scan import Contents, scan
from batchdigit.modelfiles.standins import Instance
from batchdigit.modelfiles.tensors import Declarations, StoredTensor
from batchdigit.models.statedict import MAX_NESTING
from batchdigit.models.wanted import Wanted
from batchdigit.system.json_objects import load_json

MAX_TENSORS = 1_000


def scanned(file: ModelFile, wanted: Wanted) -> Contents:
    """What the file holds, read as data. Raises CheckpointError, which says what a program is."""
    try:
        return scan(file)
    except ProgramError as error:
        raise refused_program(error, file, wanted) from error


def refused_program(error: ProgramError, file: ModelFile, wanted: Wanted) -> CheckpointError:
    """The error for a program: whether it holds the network that is ``wanted``, and what helps."""
    from batchdigit.models.architecture import layers_in_a_line  # it serves this message alone

    state = _state(error)
    shapes = {name: tensor.shape for name, tensor in state.items()}
    if wanted.required <= shapes.keys() and all(
        shapes[name][1:] == wanted.shapes[name][1:] for name in wanted.required
    ):
        holds = f"a {error.kind} program of {wanted.title}"
    elif state:
        holds = f"a {error.kind} program of another network ({layers_in_a_line(state)})"
    else:
        holds = f"a {error.kind} program"
    size = "torch.zeros(1, 1, 28, 28)"
    load = f"torch.jit.load({str(file.path)!r})"
    export = (
        f"torch.onnx.export({load}, ({size},), 'model.onnx', dynamo=False, "
        "input_names=['images'], dynamic_axes={'images': {0: 'batch'}})"
    )
    if error.kind == EXPORTED:
        load = f"torch.export.load({str(file.path)!r})"
        export = f"torch.onnx.export({load}, (), 'model.onnx', dynamo=True), which needs onnxscript"
    return file.refusal(
        f"is {holds}, which is code", f"if you trust it, write it as ONNX: {export}"
    )


def _state(error: ProgramError) -> dict[str, StoredTensor]:
    """The tensors of the network by name; empty if that cannot be read."""
    found: dict[str, StoredTensor] = {}
    try:
        tensors = _listed(error) if error.kind == EXPORTED else _pickled(error)
        for name, tensor in tensors:
            found[name] = tensor
            if len(found) > MAX_TENSORS:
                return {}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}  # it is refused anyway
    return found


def _pickled(error: ProgramError) -> Iterator[tuple[str, StoredTensor]]:
    try:
        root = read_pickle(error.weights, 0, Declarations().resolve).root
    except PickleError:
        return
    yield from _within(root, "", 0)


def _within(node: Any, path: str, depth: int) -> Iterator[tuple[str, StoredTensor]]:
    if isinstance(node, Instance) and depth <= MAX_NESTING:
        for name, part in node.attributes.items():
            if isinstance(part, StoredTensor):
                yield f"{path}{name}", part
            else:
                yield from _within(part, f"{path}{name}.", depth + 1)


def _listed(error: ProgramError) -> Iterator[tuple[str, StoredTensor]]:
    if len(error.weights) > MAX_HEADER_BYTES:  # as objects it takes thirty times as much
        return
    listed = load_json(bytes(error.weights), doubled="a name that stands twice")["config"]
    for name, entry in listed.items() if isinstance(listed, Mapping) else ():
        sizes = tuple(int(size["as_int"]) for size in entry["tensor_meta"]["sizes"])
        yield str(name), StoredTensor("float32", sizes)
