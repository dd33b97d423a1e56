"""Writing a network of the user's own as ONNX, by PyTorch."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import torch

from batchdigit.backends.own_model import OwnModel
from batchdigit.errors import BatchdigitError, one_line

OPSET = 17  # all that runs ONNX today knows it
MAX_REASON = 300  # characters: PyTorch's end with what it has traced


def exported(model: OwnModel) -> bytes:
    """The ONNX file: from prepared images ``input`` to ``scores`` [B, K], for any B.

    Raises BatchdigitError if PyTorch cannot write it.
    """
    pixels = model.spec.prepare(torch.zeros(1, *model.spec.shape)).contiguous()
    stream = io.BytesIO()
    try:
        # Before it fails, it prints all of the network that it has traced.
        with (
            warnings.catch_warnings(),
            torch.inference_mode(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")  # of its own deprecation, and of shapes it traces
            torch.onnx.export(
                _Scores(model).eval(),  # or it would leave the network in training
                (pixels,),
                stream,  # type: ignore[arg-type]  # it says no streams, and takes them
                input_names=["input"],
                output_names=["scores"],
                dynamic_axes={"input": {0: "batch"}, "scores": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # whatever the exporter and the user's code raise
        why = one_line(model.refusal(error).problem, MAX_REASON)
        raise BatchdigitError(
            f"PyTorch cannot write it as ONNX: {why}",
            "write it as .safetensors, or export it by torch.onnx.export yourself",
        ) from error
    return stream.getvalue()


class _Scores(torch.nn.Module):
    """A network that gives nothing but the scores [B, K]."""

    def __init__(self, model: OwnModel) -> None:
        super().__init__()
        self.module = model.module
        self._way = model.output.way

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        part: Any = self.module(pixels)
        for step in self._way:
            part = part[step]
        scores: torch.Tensor = part.flatten(1)
        return scores
