"""An image classifier as an ONNX file that takes pixels, whatever it was trained on.

What :class:`batchdigit.models.spec.InputSpec` declares becomes nodes in front of the graph's own,
and what the scores are becomes nodes behind them. The file is edited as a protocol buffer, field by
field, without the onnx package.

B batch, C channels, K classes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from batchdigit.modelfiles.declaration import DARK_ON_LIGHT
from batchdigit.models.onnx_file import OnnxFile, OnnxValue, parse_onnx
from batchdigit.models.onnx_messages import (
    ATTRIBUTE,
    DTYPE_NUMBERS,
    ENTRY,
    GRAPH,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    MODEL,
    MODEL_GRAPH,
    MODEL_METADATA,
    NODE,
    QUANTIZATION,
    SPARSE_TENSOR,
    TENSOR,
    VALUE,
    looks_like_ort_format,
    node,
    value,
)
from batchdigit.models.protobuf import Fields, Layout, Message, bytes_field, text_field
from batchdigit.models.spec import WHITE, InputSpec

INPUT = "images"
BATCH = "batch"  # the name of the dimension
OUTPUTS = {
    "logits": "logits",
    "probabilities": "probabilities",
    "log-probabilities": "probabilities",
}
"""For each kind of scores, the name of the output."""
MIN_OPSET = 7  # from which on operators stretch their inputs to one shape

SCORE_DTYPES = ("float32", "float16", "float64", "bfloat16")

_SQUEEZE_BY_INPUT = 13  # version of the operators
_TAKEN = re.compile(rb"batchdigit([0-9]{1,6})/")
_NAME = Layout({}, {})  # stands for a field that is itself the name of a value
# Where the names of values stand in a graph: by message, the fields that hold them or lead to them.
_LEADS: dict[Layout, dict[int, Layout]] = {
    GRAPH: {
        1: NODE,
        5: TENSOR,
        11: VALUE,
        12: VALUE,
        13: VALUE,
        14: QUANTIZATION,
        15: SPARSE_TENSOR,
    },
    NODE: {1: _NAME, 2: _NAME, 5: ATTRIBUTE},
    ATTRIBUTE: {6: GRAPH, 11: GRAPH},
    TENSOR: {8: _NAME},
    SPARSE_TENSOR: {1: TENSOR},
    VALUE: {1: _NAME},
    QUANTIZATION: {1: _NAME, 2: ENTRY},
    ENTRY: {2: _NAME},
}


@dataclass(frozen=True)
class _Step:
    """A node that takes one value, and perhaps a constant behind it."""

    operator: str
    attributes: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    constant: NDArray[np.generic] | None = None


def with_pixels_as_input(
    data: bytes,
    spec: InputSpec,
    *,
    output: str | None,
    scores: str,
    metadata: Mapping[str, str],
) -> bytes:
    """The same model, which takes pixels as readers give them.

    ``data`` is a file that :func:`~batchdigit.models.onnx_file.read_onnx_file` accepts, and
    ``spec`` what its one input takes. The new model takes ``images`` uint8[B, C, height, width] of
    ``spec.shape``, light strokes on a dark ground, and gives what the output of the name ``output``
    does, or the only one: ``logits`` or ``probabilities`` float32[B, K], by what it gives now
    (``scores``, a key of OUTPUTS). K is ``spec.classes``. B is any number, or the one that the
    model takes. The arithmetic and its order are those of :meth:`InputSpec.prepare`. ``metadata``
    is added to that of the model, in place of what has the same keys.

    Raises ValueError for a file that is not accepted, for an input or output of another shape, and
    for operators older than version MIN_OPSET.
    """
    model = parse_onnx(data)
    if model.opsets.get("", 0) < MIN_OPSET:
        raise ValueError(f"its operators are older than version {MIN_OPSET}")
    (taken,) = model.inputs
    _check_input(taken, spec)
    given = _chosen(model, output)
    if scores not in OUTPUTS:
        raise ValueError(f"there are no scores of the kind {scores}")
    name = OUTPUTS[scores]
    before = _before(spec, taken.dtype, model.opsets[""])
    after = _after(given, scores)
    prefix = _free_prefix(data)
    # Other values of these names get new ones.
    names = {old: f"{prefix}{old}" for old in (INPUT, name) if old.encode() in data}
    source, result = (names.get(old, old) for old in (taken.name, given.name))
    batch = taken.shape[0] if taken.shape and isinstance(taken.shape[0], int) else BATCH

    fields = Fields()
    new: Message = []
    for number, content, raw in fields.read(memoryview(data), MODEL):
        if number == MODEL_GRAPH:
            new += bytes_field(
                MODEL_GRAPH,
                [
                    *_nodes(before, INPUT, source, f"{prefix}in"),
                    *_kept(fields, _renamed(content, names), source),
                    *_nodes(after, result, name, f"{prefix}out"),
                    *bytes_field(GRAPH_INPUT, value(INPUT, "uint8", (batch, *spec.shape))),
                    *bytes_field(GRAPH_OUTPUT, value(name, "float32", (batch, spec.classes))),
                ],
            )
        elif number != MODEL_METADATA or _key(fields, content) not in metadata:
            new.append(raw)
    for key, text in metadata.items():
        new += bytes_field(MODEL_METADATA, [*text_field(1, key), *text_field(2, text)])
    written = b"".join(new)
    if looks_like_ort_format(written):
        raise ValueError("it would be taken for ONNX Runtime's own format")
    return written


def _check_input(taken: OnnxValue, spec: InputSpec) -> None:
    shape = spec.prepared_shape
    if not taken.takes(shape):
        wanted = ", ".join(map(str, (BATCH, *shape)))
        raise ValueError(f"it takes {taken.text}, and not [{wanted}]")


def _chosen(model: OnnxFile, output: str | None) -> OnnxValue:
    outputs = {each.name: each for each in model.outputs}
    if output is None and len(outputs) == 1:
        (output,) = outputs
    if output is None or output not in outputs:
        raise ValueError(f"its outputs are {', '.join(outputs)}, of which one has to be chosen")
    if outputs[output].dtype not in SCORE_DTYPES:
        raise ValueError(f"its output {outputs[output].text} is no tensor of scores")
    return outputs[output]


def _before(spec: InputSpec, dtype: str, opset: int) -> list[_Step]:
    """What becomes of uint8[B, C, height, width], as :meth:`InputSpec.prepare` does it."""
    steps = [_cast("float32")]
    if spec.expects == DARK_ON_LIGHT:
        steps += [_Step("Neg"), _Step("Add", constant=np.array([WHITE], np.float32))]
    if spec.scale != 1:
        steps.append(_Step("Div", constant=np.array([spec.scale], np.float32)))
    mean, std = (
        np.array(numbers, np.float32).reshape(-1, 1, 1) for numbers in (spec.mean, spec.std)
    )
    if mean.any():
        steps.append(_Step("Sub", constant=mean))
    if (std != 1).any():
        steps.append(_Step("Div", constant=std))
    axes = (0, 1, 3, 2) if spec.transpose else (0, 1, 2, 3)
    if spec.layout == "nhwc":
        axes = (axes[0], axes[2], axes[3], axes[1])
    if axes != (0, 1, 2, 3):
        steps.append(_Step("Transpose", {"perm": axes}))
    if spec.layout == "nhw":
        # What was an attribute became an input.
        old = opset < _SQUEEZE_BY_INPUT
        channel = np.array([1], np.int64)
        steps.append(
            _Step("Squeeze", {"axes": (1,)}) if old else _Step("Squeeze", constant=channel)
        )
    elif spec.layout == "flat":
        steps.append(_Step("Flatten", {"axis": 1}))
    return steps if dtype == "float32" else [*steps, _cast(dtype)]


def _after(given: OnnxValue, scores: str) -> list[_Step]:
    """What becomes of the scores: float32[B, K]."""
    sizes = given.shape
    if sizes is not None and (
        len(sizes) < 2 or sum(isinstance(size, int) and size != 1 for size in sizes[1:]) > 1
    ):
        raise ValueError(f"its output {given.text} is no row of scores for each image")
    steps = [] if given.dtype == "float32" else [_cast("float32")]
    if sizes is None or len(sizes) > 2:
        steps.append(_Step("Flatten", {"axis": 1}))
    if scores == "log-probabilities":
        steps.append(_Step("Exp"))
    return steps or [_Step("Identity")]


def _cast(dtype: str) -> _Step:
    return _Step("Cast", {"to": DTYPE_NUMBERS[dtype]})


def _nodes(steps: list[_Step], start: str, end: str, prefix: str) -> Message:
    """Nodes of a graph that turn the value ``start`` into ``end``.

    Constants are nodes: initializers would have to be inputs, too, in files of before 2019.
    """
    nodes: Message = []
    name = start
    for number, step in enumerate(steps):
        inputs = [name]
        if step.constant is not None:
            inputs.append(f"{prefix}{number}constant")
            constant = node("Constant", [], inputs[-1], {"value": step.constant})
            nodes += bytes_field(GRAPH_NODE, constant)
        name = end if step is steps[-1] else f"{prefix}{number}"
        label = f"{prefix}{number} {step.operator}"
        nodes += bytes_field(GRAPH_NODE, node(step.operator, inputs, name, step.attributes, label))
    return nodes


def _kept(fields: Fields, message: memoryview, source: str) -> Message:
    """A graph without its outputs and without the input ``source``."""
    kept: Message = []
    for number, content, raw in fields.read(message, GRAPH):
        if number == GRAPH_OUTPUT:
            continue
        if number == GRAPH_INPUT and fields.keep(content, VALUE, (1,))[1] == [source.encode()]:
            continue
        kept.append(raw)
    return kept


def _key(fields: Fields, message: memoryview) -> str:
    """The key of an entry of the metadata."""
    return "".join(
        bytes(key).decode(errors="replace") for key in fields.keep(message, ENTRY, (1,))[1]
    )


def _free_prefix(data: bytes) -> str:
    """The beginning of a name that nothing in a file has."""
    taken = set(map(int, _TAKEN.findall(data)))
    return f"batchdigit{next(number for number in itertools.count() if number not in taken)}/"


def _renamed(graph: memoryview, names: Mapping[str, str]) -> memoryview:
    """A graph in which values have other names, in its subgraphs, too."""
    if not names:
        return graph
    encoded = {old.encode(): new.encode() for old, new in names.items()}
    return memoryview(b"".join(_rewritten(Fields(), graph, GRAPH, encoded)))


def _rewritten(
    fields: Fields, message: memoryview, layout: Layout, names: Mapping[bytes, bytes]
) -> Message:
    written: Message = []
    for number, content, raw in fields.read(message, layout):
        inner = _LEADS[layout].get(number)
        if inner is None:
            written.append(raw)
        elif inner is _NAME:
            written += bytes_field(number, [names.get(bytes(content), content)])
        else:
            written += bytes_field(number, _rewritten(fields, content, inner, names))
    return written
