"""What the declared shape of an ONNX graph's input says of the images that it takes."""

from __future__ import annotations

import math

from batchdigit.errors import CheckpointError, UsageError
from batchdigit.modelfiles.declaration import CHANNELS, Declaration
from batchdigit.models.onnx_file import OnnxValue
from batchdigit.models.spec import InputSpec

BYTES = "uint8"
_SHAPE = ("size", "channels", "layout")


def declared_by(value: OnnxValue) -> Declaration:
    """What the type and the shape of an input say; a channel's place tells the layout.

    Bytes are pixels as they are. Of a row of numbers nobody knows whether it is a square, but all
    networks that people publish take one.
    """
    found = Declaration(range="0-255") if value.dtype == BYTES else Declaration()
    shape = value.shape or ()
    if len(shape) == 4:
        _, first, second, last = shape
        if first not in CHANNELS and last in CHANNELS:
            return Declaration(
                layout="nhwc", channels=_number(last), size=_size(first, second)
            ).over(found)
        channels = first if first in CHANNELS else None
        return Declaration(
            layout="nchw", channels=_number(channels), size=_size(second, last)
        ).over(found)
    if len(shape) == 3:
        return Declaration(layout="nhw", channels=1, size=_size(*shape[1:])).over(found)
    if len(shape) == 2:
        return _of_a_row(shape[1]).over(found)
    return found


def check_shape(value: OnnxValue, spec: InputSpec) -> None:
    """Raise UsageError unless images that ``spec`` declares fit the input.

    Where it declares no more than the input itself does, that is the file's fault: CheckpointError.
    """
    wanted = spec.prepared_shape
    if not value.takes(wanted):
        own = InputSpec.declared(declared_by(value), spec.classes)
        known = declared_by(value).without(spec.declaration).flags()
        nobody = all(getattr(spec, name) == getattr(own, name) for name in _SHAPE)
        raise (CheckpointError if nobody else UsageError)(
            f"the model takes {value.text}, and not [images, {', '.join(map(str, wanted))}]",
            f"declare {known}" if known else "declare its --input-size, --channels and --layout",
        )
    fractions = spec.range == "0-1" or any(spec.mean) or any(std != 1 for std in spec.std)
    if value.dtype == BYTES and fractions:
        raise UsageError(
            f"the model takes {value.text}, so pixels can't be scaled",
            "leave --mean and --std off, and --range or give --range 0-255",
        )


def _of_a_row(length: int | str | None) -> Declaration:
    for channels in CHANNELS:
        if isinstance(length, int) and not length % channels:
            side = math.isqrt(length // channels)
            if side and side * side * channels == length:
                return Declaration(layout="flat", channels=channels, size=(side, side))
    return Declaration(layout="flat")


def _size(height: int | str | None, width: int | str | None) -> tuple[int, int] | None:
    known = isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
    return (height, width) if known else None  # type: ignore[return-value]


def _number(size: int | str | None) -> int | None:
    return size if isinstance(size, int) else None
