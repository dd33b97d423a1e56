"""Writing a model in another file format, checked before it is published."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from batchdigit.backends.base import Backend
from batchdigit.backends.export import MAX_REASON, exported
from batchdigit.backends.onnx_backend import OnnxBackend, OnnxModel
from batchdigit.backends.opening import Opened, load_model, open_model_file
from batchdigit.backends.own_model import OwnModel
from batchdigit.backends.sameness import NOISE, NOTHING, largest_difference
from batchdigit.backends.torch_backend import TorchBackend
from batchdigit.errors import BatchdigitError, CheckpointError, UsageError, one_line
from batchdigit.job import Job
from batchdigit.modelfiles.declaration import Declaration, declaring
from batchdigit.modelfiles.file import ONNX, ModelFile
from batchdigit.models.checkpoint import Checkpoint, build_model
from batchdigit.models.described import METADATA
from batchdigit.models.onnx_file import read_onnx_file
from batchdigit.models.onnx_graph import onnx_model
from batchdigit.models.onnx_input import OUTPUTS, with_pixels_as_input
from batchdigit.models.spec import MNIST, InputSpec
from batchdigit.models.weights import check_finite, fold_input, read_weights
from batchdigit.system.paths import as_path
from batchdigit.system.publish import Publication, writing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from batchdigit.api import WhichModel


@dataclass(frozen=True)
class Conversion:
    """What was written; ``checked`` says in words how it was compared with the original.

    ``undeclared`` are the options that the new file still needs: a state dict holds no declaration.
    """

    path: Path
    bytes: int
    format: str
    kind: str
    classes: int
    checked: str
    undeclared: str = ""


def convert_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    force: bool = False,
    **which: Unpack[WhichModel],
) -> Conversion:
    """Write the model in ``source`` to ``target``, in the format that its extension names.

    ``.onnx`` takes pixels as they are read, ``images`` uint8[B, C, H, W], light strokes on a dark
    ground; all that is declared of the input is in its graph, so that it needs no declaration.
    ``.pt`` or ``.pth`` is a state dict by ``torch.save``, ``.safetensors`` the same in that format.
    Both keep names, values and precision, and are read again before they are published. A
    declaration becomes part of the first convolution of the packaged kind of network, in single
    precision; of any other network, safetensors holds it as metadata, and a state dict not at all.

    ``which`` are keywords of :class:`batchdigit.Job` that say which model is meant and what it
    takes: ``class_name``, ``key``, ``network``, ``network_args``, ``labels``, ``input_size``,
    ``channels``, ``range``, ``mean``, ``std``, ``expects``, ``layout``, ``transpose``, ``place``,
    ``scores``. The new file must give a thousand digits the same labels, and the same
    probabilities to 1e-5, before it is published.

    Raises UsageError for another extension, and for a declaration that makes no sense,
    CheckpointError for a source that cannot be used, OutputError where ``target`` cannot be
    written, or holds something while ``force`` is false, and BatchdigitError where a package is
    missing or the check fails.
    """
    target = as_path("the target", target)
    if (save := _SAVERS.get(target.suffix.lower())) is None:
        raise UsageError(
            f"{target.name!r} does not say which format to write",
            f"end it in one of {', '.join(_SAVERS)}",
        )
    job = Job(source=".", model=source, **which)
    with Publication(force=force) as publication:
        handle = publication.create(target)
        job, file = open_model_file(job)
        is_onnx = file is not None and file.format == ONNX
        backend: Backend = OnnxBackend() if is_onnx else TorchBackend("cpu", "fp32")
        opened = load_model(job, file, backend)
        # Which images are fitted, as somebody said it, and not what else is usual.
        opened = replace(opened, job=replace(opened.job, preprocess=job.preprocess))
        written = save(opened, file, target)
        with writing(target):
            handle.write(written.data)
        publication.publish()
    return Conversion(
        path=target,
        bytes=len(written.data),
        format=target.suffix.lower().removeprefix("."),
        kind=opened.model.kind,
        classes=opened.model.classes,
        checked=written.checked,
        undeclared=written.undeclared,
    )


@dataclass(frozen=True)
class _Written:
    data: bytes
    checked: str
    undeclared: str = ""


def _save_state_dict(opened: Opened, _file: ModelFile | None, target: Path) -> _Written:
    state, folded = _state(opened)
    stream = io.BytesIO()
    torch.save(state, stream)
    checked = _read_again(opened, state, target, stream.getvalue())
    options = ["" if folded else _declared(opened).flags()]
    if opened.job.labels:
        options.append("--labels FILE")
    if opened.job.preprocess:
        options.append(f"--preprocess {opened.job.preprocess}")
    return _Written(stream.getvalue(), checked + folded, " ".join(filter(None, options)))


def _save_safetensors(opened: Opened, _file: ModelFile | None, target: Path) -> _Written:
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise _missing("safetensors") from error
    state, folded = _state(opened)
    # The transformers library takes a file only if it says that PyTorch made it.
    metadata = {"format": "pt"} | _metadata(opened, Declaration() if folded else _declared(opened))
    data = save(state, metadata)
    return _Written(data, _read_again(opened, state, target, data) + folded)


def _save_onnx(opened: Opened, file: ModelFile | None, target: Path) -> _Written:
    model, spec = opened.model, opened.model.spec
    output: str | None = None
    if isinstance(model, Checkpoint):
        graph = onnx_model(model.weights)
    elif isinstance(model, OwnModel):
        graph = exported(model)
    else:
        assert file is not None and isinstance(model, OnnxModel)  # noqa: PT018, S101
        graph = file.data
        output = read_onnx_file(file).outputs[model.output].name
    # The size is in the graph, but how digits get there is not, and neither what its scores are.
    said = opened.job.scores not in (None, "auto")
    beside = Declaration(
        place=spec.place if spec.place != MNIST.place else None,
        scores=OUTPUTS[spec.scores] if said else None,
    )
    try:
        data = with_pixels_as_input(
            graph, spec, output=output, scores=spec.scores, metadata=_metadata(opened, beside)
        )
    except ValueError as error:
        raise BatchdigitError(f"cannot write {target}: {error}", NOTHING) from error
    job = Job(source=".", model=target, labels=opened.job.labels, **declaring(beside))
    try:
        again = load_model(job, ModelFile(target, data), OnnxBackend())
    except CheckpointError as error:
        if not isinstance(model, OwnModel):
            raise
        raise BatchdigitError(
            f"the ONNX that PyTorch writes of the network {model.name} does not run: "
            f"{one_line(error.problem, MAX_REASON)}",
            "if it computes for one number of images alone, take that from x.size(0) and not from "
            "len(x) in forward(); or write it as .safetensors",
        ) from error
    largest = largest_difference(opened, again, target)
    return _Written(
        data, f"takes pixels as they are, any batch size; within {largest:.0e} on 1000 digits"
    )


def _state(opened: Opened) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict in the network's order, each tensor with memory of its own.

    What is declared is in the first convolution, where it can be; then it is said how that was
    compared.
    """
    model, folded = opened.model, ""
    if isinstance(model, OnnxModel):
        raise UsageError(
            f"{opened.job.model} is an ONNX file, from which only ONNX can be written",
            "end the target in .onnx",
        )
    if isinstance(model, OwnModel):
        names = [name for name in model.module.state_dict() if name in model.state]
        return {name: _apart(model.state[name]) for name in names}, ""
    if _declared(opened).given() and not model.spec.transpose:
        opened, folded = _fold(opened)
        model = opened.model
    assert isinstance(model, Checkpoint)  # noqa: S101
    names = [name for name in model.model.state_dict() if name in model.state]
    return {name: _apart(model.state[name]) for name in names}, folded


def _apart(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().clone()


def _fold(opened: Opened) -> tuple[Opened, str]:
    """The same network for pixels from 0 to 1, and in words how it was compared with the other."""
    checkpoint = opened.model
    assert isinstance(checkpoint, Checkpoint)  # noqa: S101
    weights = fold_input(checkpoint.weights)
    check_finite(weights.path, weights.single)
    folded = replace(opened, model=Checkpoint(build_model(weights), weights))
    largest = largest_difference(opened, folded, opened.job.model)
    return folded, (
        "; what is declared of the input is in the first convolution, within "
        f"{largest:.0e} on 1000 digits and {NOISE} random images"
    )


def _read_again(
    opened: Opened, state: Mapping[str, torch.Tensor], target: Path, data: bytes
) -> str:
    """Compare what was written with ``state``, and say so."""
    model = opened.model
    file = ModelFile(target, data)
    if isinstance(model, OwnModel):
        again = load_model(replace(opened.job, model=target, key=None), file, opened.backend)
        largest_difference(opened, again, target)
        assert isinstance(again.model, OwnModel)  # noqa: S101
        found: Mapping[str, torch.Tensor] = again.model.state
    else:
        found = Checkpoint(build_model(weights := read_weights(file)), weights).state
    same = found.keys() == state.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in state.items()
    )
    if not same:
        raise BatchdigitError(
            f"{target} would not hold the same weights", "please report this as a bug"
        )
    return f"{len(state)} tensors, read again and equal"


def _declared(opened: Opened) -> Declaration:
    """What is declared beyond what every model has, and beyond what is found out."""
    spec = replace(opened.model.spec.declaration, scores=opened.job.scores)
    return spec.without(InputSpec().declaration)


def _metadata(opened: Opened, declaration: Declaration) -> dict[str, str]:
    """What a file says of its model, so that nobody need say it again."""
    said: dict[str, Any] = {}
    if given := declaration.given():
        said["input"] = given
    if opened.job.labels:
        said["labels"] = opened.job.labels
    if opened.job.preprocess:
        said["fit"] = opened.job.preprocess
    return {METADATA: json.dumps(said)} if said else {}


def _missing(packages: str) -> BatchdigitError:
    return BatchdigitError(
        f"writing this format needs packages that are not installed ({packages})",
        f"pip install {packages}",
    )


_SAVERS = {
    ".pt": _save_state_dict,
    ".pth": _save_state_dict,
    ".safetensors": _save_safetensors,
    ".onnx": _save_onnx,
}
