"""Writing a model in another file format, checked before it is published."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from batchdigit.errors import BatchdigitError, CheckpointError, UsageError
from batchdigit.modelfiles.file import ModelFile
from batchdigit.modelfiles.normalisation import check_normalisation
from batchdigit.models.checkpoint import Checkpoint, WhichModel, build_model, load_checkpoint
from batchdigit.models.cnn import CNN
from batchdigit.models.digits import packaged_digits
from batchdigit.models.onnx_graph import INPUT, OPSET, OUTPUT, onnx_model
from batchdigit.models.spec import InputSpec
from batchdigit.models.weights import check_finite, fold_input, read_weights
from batchdigit.system.imports import import_onnxruntime
from batchdigit.system.paths import as_path
from batchdigit.system.publish import Publication, writing

if TYPE_CHECKING:
    from typing_extensions import Unpack

TOLERANCE = 1e-5  # for a probability, and for a logit relative to the largest


@dataclass(frozen=True)
class Conversion:
    """What was written; ``checked`` says in words how it was compared with the original."""

    path: Path
    bytes: int
    format: str
    kind: str
    classes: int
    checked: str


def convert_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    mean: float | None = None,
    std: float | None = None,
    force: bool = False,
    **which: Unpack[WhichModel],
) -> Conversion:
    """Write the model in ``source`` to ``target``, in the format that its extension names.

    ``.pt`` or ``.pth`` is a state dict by ``torch.save``, ``.safetensors`` the same in that
    format. Both keep names, values and precision, and are read again before they are published.
    ``.onnx`` is the network in single precision, opset 18: input ``images`` float32[B, 1, 28, 28],
    output ``logits`` float32[B, K], for any B. ONNX Runtime must agree with torch on a thousand
    digits and a thousand random images before it is published. ``class_name`` and ``key`` mean what
    they mean to :func:`batchdigit.load_checkpoint`.

    ``mean`` and ``std`` are those that the model was trained with, as of :class:`batchdigit.Job`.
    They become part of its first convolution, in single precision, so that what is written takes
    pixels from 0 to 1; the two must agree on the same images.

    Raises UsageError for another extension, and for a mean or a deviation that pixels cannot be
    scaled by, CheckpointError for a source that cannot be used, OutputError where ``target`` cannot
    be written, or holds something while ``force`` is false, and
    BatchdigitError where a package is missing or the check fails.
    """
    check_normalisation(mean, std)
    target = as_path("the target", target)
    if (save := _SAVERS.get(target.suffix.lower())) is None:
        raise UsageError(
            f"{target.name!r} does not say which format to write",
            f"end it in one of {', '.join(_SAVERS)}",
        )
    with Publication(force=force) as publication:
        handle = publication.create(target)
        checkpoint = load_checkpoint(source, **which)
        folded = ""
        if mean is not None:
            checkpoint, folded = _fold(checkpoint, mean, std)
        data, checked = save(checkpoint, target)
        with writing(target):
            handle.write(data)
        publication.publish()
    return Conversion(
        path=target,
        bytes=len(data),
        format=target.suffix.lower().removeprefix("."),
        kind=checkpoint.kind,
        classes=checkpoint.classes,
        checked=checked + folded,
    )


def _fold(checkpoint: Checkpoint, mean: float | None, std: float | None) -> tuple[Checkpoint, str]:
    """The same network for pixels from 0 to 1, and in words how it was compared with the other."""
    declared = checkpoint.weights.normalised(mean, std)
    weights = fold_input(declared)
    check_finite(weights.path, weights.single)
    folded = Checkpoint(build_model(weights), weights)

    def run(pixels: torch.Tensor) -> np.ndarray:
        scaled = pixels * declared.spec.scale
        declared.spec.scale_pixels(scaled)
        with torch.inference_mode():
            logits_BK: np.ndarray = checkpoint.model(scaled).numpy()
        return logits_BK

    difference = _compare(folded.model, weights.spec, run)
    if not difference <= TOLERANCE:
        raise BatchdigitError(
            f"{checkpoint.path} would differ by up to {difference:.1e} with its mean and deviation "
            "in the first convolution",
            "nothing was written; see that --mean and --std are what it was trained with",
        )
    return folded, (
        f"; mean and deviation are in the first convolution, within {difference:.0e} on 1000 "
        "digits and 1000 random images"
    )


def _own_state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The state dict in the CNN's order, each tensor with memory of its own."""
    names = [name for name in checkpoint.model.state_dict() if name in checkpoint.state]
    return {name: checkpoint.state[name].contiguous().clone() for name in names}


def _save_state_dict(checkpoint: Checkpoint, target: Path) -> tuple[bytes, str]:
    stream = io.BytesIO()
    torch.save(_own_state(checkpoint), stream)
    return _read_again(checkpoint, target, stream.getvalue())


def _save_safetensors(checkpoint: Checkpoint, target: Path) -> tuple[bytes, str]:
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise _missing("safetensors") from error
    # The transformers library takes a file only if it says that PyTorch made it.
    return _read_again(checkpoint, target, save(_own_state(checkpoint), {"format": "pt"}))


def _read_again(checkpoint: Checkpoint, target: Path, data: bytes) -> tuple[bytes, str]:
    again = Checkpoint(checkpoint.model, read_weights(ModelFile(target, data))).state
    same = again.keys() == checkpoint.state.keys() and all(
        again[name].dtype == tensor.dtype and torch.equal(again[name], tensor)
        for name, tensor in checkpoint.state.items()
    )
    if not same:
        raise BatchdigitError(
            f"{target} would not hold the same weights", "please report this as a bug"
        )
    return data, f"{len(again)} tensors, read again and equal"


def _save_onnx(checkpoint: Checkpoint, target: Path) -> tuple[bytes, str]:
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise _missing("onnxruntime") from error
    data = onnx_model(checkpoint.weights)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    difference = _compare(
        checkpoint.model,
        checkpoint.spec,
        lambda images: session.run([OUTPUT], {INPUT: images.numpy()})[0],
    )
    if math.isinf(difference):
        raise CheckpointError(
            f"the network in {checkpoint.path} gives numbers that are not finite",
            "use other weights",
        )
    if difference > TOLERANCE:
        raise BatchdigitError(
            f"{target} would differ from {checkpoint.path} by up to {difference:.1e}",
            "nothing was written; please report this as a bug",
        )
    return data, (
        f"opset {OPSET}, any batch size; within {difference:.0e} of PyTorch on 1000 digits "
        "and 1000 random images"
    )


def _compare(model: CNN, spec: InputSpec, run: Callable[[torch.Tensor], np.ndarray]) -> float:
    """The largest difference in probability, or in logit relative to the largest logit."""
    noise = torch.rand(1000, *spec.shape, generator=torch.Generator().manual_seed(0))
    digits = torch.from_numpy(packaged_digits()).float()
    spec.scale_pixels(digits)
    largest = 0.0
    for images in (digits, noise):
        for part in images.split([1, 7, 992]):
            with torch.inference_mode():
                ours = model(part)
            theirs = torch.from_numpy(run(part))
            if theirs.shape != ours.shape or not bool(theirs.isfinite().all()):
                return math.inf
            relative = (theirs - ours).abs().max() / ours.abs().max().clamp(min=1)
            absolute = (theirs.softmax(dim=1) - ours.softmax(dim=1)).abs().max()
            largest = max(largest, float(relative), float(absolute))
    return largest


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
