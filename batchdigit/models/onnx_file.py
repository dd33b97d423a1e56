"""ONNX files of any origin: what they take and give, found by reading them as data.

ONNX Runtime gets a file only after it was read here. It computes what a graph says, and a graph
may say a lot: the sizes that ``ConstantOfShape``, ``Expand``, ``Tile``, ``Pad``, ``Resize``,
``Range`` or a ``Loop`` make of numbers that are themselves computed cannot be known from the file.
That such a graph needs little time and memory is not promised here.

B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from batchdigit.errors import one_line
from batchdigit.modelfiles.file import ModelFile
from batchdigit.modelfiles.limits import MAX_NAME
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.onnx_contents import (
    EXPORT_AGAIN,
    Body,
    Call,
    GraphReader,
    OnnxError,
    counted_operators,
    read_text,
)
from batchdigit.models.onnx_messages import (
    DATA_TYPES,
    DIMENSION,
    ENTRY,
    FUNCTION,
    GRAPH_INPUT,
    GRAPH_OUTPUT,
    MODEL,
    MODEL_GRAPH,
    MODEL_METADATA,
    OPSET,
    SHAPE,
    TENSOR_TYPE,
    TEXT,
    TYPE,
    VALUE,
    is_standard,
    looks_like_ort_format,
)
from batchdigit.models.protobuf import Fields, ProtobufError

IMAGE_DTYPES = ("float32", "float16", "float64", "uint8")
MAX_ENTRIES = 1_000  # of the metadata
MAX_METADATA = 100_000  # characters of one entry
_NUMBER_DTYPES = {kind.name for kind in DATA_TYPES.values()} - {TEXT, "bool"}
_MAX_RANK = 32  # dimensions of an input or output: images have 4
_SHOWN_NAMES = 5
_IMAGES_ALONE = "export a model that takes images alone"
_TYPE_OF_A_TENSOR = 1


@dataclass(frozen=True)
class OnnxValue:
    """An input or an output of a graph.

    ``dtype`` is numpy's name of its type, or empty for what is no tensor. In ``shape`` a text is a
    named dimension, and None one of which nothing is known; it is None if there is no shape.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    @property
    def shape_text(self) -> str:
        """The shape as people write it: ``[batch, 1, 28, 28]``, with ``?`` for what is unknown."""
        if self.shape is None:
            return "[...]"
        return f"[{', '.join('?' if size is None else str(size) for size in self.shape)}]"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether any number of images of this shape may be given to it, by what is known."""
        if self.shape is None:
            return True
        sizes = self.shape[1:]
        return len(sizes) == len(shape) and all(
            not isinstance(size, int) or size == wanted
            for size, wanted in zip(sizes, shape, strict=True)
        )

    @property
    def text(self) -> str:
        """``images float32[batch, 1, 28, 28]``."""
        return f"{self.name} {self.dtype}{self.shape_text}"


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """What an ONNX file holds besides the numbers of its weights.

    ``inputs`` are without those that initializers give. ``operators`` says how often each one
    stands in the graph, its subgraphs and the functions of the model, ``opsets`` which version of
    each domain; the standard domain is the empty text, operators of others are
    ``domain::operator``. ``initializers`` are the weights by name. ``metadata`` is printable: other
    characters are escaped, and texts are cut to MAX_METADATA of them.
    """

    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    operators: Mapping[str, int]
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    metadata: dict[str, str]
    initializers: Mapping[str, StoredTensor]


# A large file takes a second to read, and is asked for its metadata, its input and its facts.
_read: WeakKeyDictionary[ModelFile, OnnxFile] = WeakKeyDictionary()


def read_onnx_file(file: ModelFile) -> OnnxFile:
    """What is in an ONNX file that takes one batch of images, and gives tensors of numbers.

    Raises CheckpointError for any other file: a damaged one; one of other inputs or outputs; one
    with operators that are not of the ONNX standard, with weights in other files, with sparse
    tensors, with instructions for training; and one that another reader could read differently.
    """
    if (read := _read.get(file)) is not None:
        return read
    with file.refused_if_it_fails():
        try:
            found = _read[file] = parse_onnx(file.data)
        except OnnxError as error:
            raise file.refusal(error.problem, error.remedy) from error
    return found


def parse_onnx(data: bytes) -> OnnxFile:
    """The same from bytes. Raises OnnxError, a ValueError, with the problem and its remedy."""
    if looks_like_ort_format(data):
        raise OnnxError("is in ONNX Runtime's own format", "give the ONNX file that it is made of")
    try:
        found = _read_model(memoryview(data))
    except ProtobufError as error:
        raise OnnxError(f"is damaged, or no ONNX file ({error})", EXPORT_AGAIN) from error
    _check_inputs(found.inputs)
    _check_outputs(found.outputs)
    return found


def _read_model(message: memoryview) -> OnnxFile:
    fields = Fields()
    reader = GraphReader(fields)
    model = fields.keep(message, MODEL, (1, 2, 3, MODEL_GRAPH, 8, MODEL_METADATA, 20, 25))
    if not model[MODEL_GRAPH] or not model[1]:
        raise OnnxError("is no ONNX file: it has no graph, or no version", EXPORT_AGAIN)
    if model[20]:
        raise OnnxError("holds instructions for training", "export it for inference")
    main = Body(opsets=_read_opsets(fields, model[8]))
    if not main.opsets:
        raise OnnxError("does not say of which version its operators are", EXPORT_AGAIN)
    values, initializers = reader.graph(model[MODEL_GRAPH][0], main)
    functions: dict[Call, Body] = {}
    for content in model[25]:
        call, body = _read_function(reader, content, main.opsets)
        if is_standard(call.domain):
            raise OnnxError(f"gives {call.text} of the ONNX standard another meaning", EXPORT_AGAIN)
        if functions.setdefault(call, body) is not body:
            raise OnnxError(f"holds the function {call.text} twice", EXPORT_AGAIN)
    inputs = [_read_value(fields, content) for content in values[GRAPH_INPUT]]
    return OnnxFile(
        inputs=tuple(value for value in inputs if value.name not in initializers),
        outputs=tuple(_read_value(fields, content) for content in values[GRAPH_OUTPUT]),
        operators=counted_operators(main, functions),
        opsets=main.opsets,
        ir_version=model[1][0],
        producer=one_line(" ".join(_shown(part, MAX_NAME) for part in [*model[2], *model[3]])),
        metadata=_read_metadata(fields, model[MODEL_METADATA]),
        initializers=initializers,
    )


def _read_function(
    reader: GraphReader, message: memoryview, opsets: Mapping[str, int]
) -> tuple[Call, Body]:
    found = reader.fields.keep(message, FUNCTION, (1, 7, 9, 10, 11, 13))
    domain, name, overload = (read_text(*found[number]) for number in (10, 1, 13))
    body = Body(opsets={**opsets, **_read_opsets(reader.fields, found[9])})
    for content in found[7]:
        reader.node(content, body)
    for content in found[11]:
        reader.attribute(content, body)
    reader.finish(body)
    return Call.of(domain, name, overload), body


def _read_opsets(fields: Fields, messages: list[Any]) -> dict[str, int]:
    """The version of each domain's operators."""
    opsets: dict[str, int] = {}
    for message in messages:
        found = fields.keep(message, OPSET, (1, 2))
        domain = Call.of(read_text(*found[1]), "", "").domain
        if not found[2]:
            raise OnnxError("does not say of which version its operators are", EXPORT_AGAIN)
        version = _signed(found[2][0])
        if opsets.setdefault(domain, version) != version:  # some writers say the same twice
            raise OnnxError("says of two versions that its operators are of them", EXPORT_AGAIN)
    return opsets


def _read_value(fields: Fields, message: memoryview) -> OnnxValue:
    found = fields.keep(message, VALUE, (1, 2))
    name = read_text(*found[1])
    kinds = (_TYPE_OF_A_TENSOR, 4, 5, 7, 8, 9)
    declared = fields.keep(found[2][0], TYPE, kinds) if found[2] else {}
    if sum(map(len, declared.values())) > 1:  # of which readers take the last
        raise OnnxError(f"declares {name} as two things at once", EXPORT_AGAIN)
    if not declared.get(_TYPE_OF_A_TENSOR):
        return OnnxValue(name, "", None)
    tensor = fields.keep(declared[_TYPE_OF_A_TENSOR][0], TENSOR_TYPE, (1, 2))
    kind = DATA_TYPES.get(tensor[1][0]) if tensor[1] else None
    if not tensor[2]:
        return OnnxValue(name, kind.name if kind else "", None)
    sizes = fields.keep(tensor[2][0], SHAPE, (1,))[1]
    if len(sizes) > _MAX_RANK:
        raise OnnxError(f"declares {len(sizes)} dimensions for {name}", EXPORT_AGAIN)
    shape = tuple(_read_size(fields, size) for size in sizes)
    return OnnxValue(name, kind.name if kind else "", shape)


def _read_size(fields: Fields, message: memoryview) -> int | str | None:
    found = fields.keep(message, DIMENSION, (1, 2))
    if found[1] and found[2]:
        raise OnnxError("declares a dimension as two things at once", EXPORT_AGAIN)
    if found[1]:
        size = _signed(found[1][0])
        return size if size >= 0 else None  # which old exporters write as -1
    return (_shown(found[2][0], MAX_NAME) or None) if found[2] else None


def _read_metadata(fields: Fields, messages: list[Any]) -> dict[str, str]:
    if len(messages) > MAX_ENTRIES:
        raise OnnxError(f"has {len(messages)} entries of metadata", "leave most of them out")
    metadata = {}
    for message in messages:
        found = fields.keep(message, ENTRY, (1, 2))
        key, value = (found[number][0] if found[number] else memoryview(b"") for number in (1, 2))
        metadata[_shown(key, MAX_NAME)] = _shown(value, MAX_METADATA)
    return metadata


def _shown(content: memoryview, most: int) -> str:
    """The beginning of a text of any kind, with escapes for what cannot be printed."""
    text = bytes(content[: 4 * most]).decode("utf-8", "backslashreplace")  # of 4 bytes at most each
    if not text.isprintable():
        characters = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        text = "".join(characters)
    return text if len(text) <= most else text[: most - 1] + "…"


def _signed(number: int) -> int:
    """An int64 as the encoding has it, by its sign."""
    return number - (1 << 64) if number >> 63 else number


def _check_inputs(inputs: tuple[OnnxValue, ...]) -> None:
    if not inputs:
        raise OnnxError("takes no input", "export a model that takes images")
    if len(inputs) > 1:
        *names, last = [value.name for value in inputs[:_SHOWN_NAMES]]
        if len(inputs) > _SHOWN_NAMES:
            names, last = [*names, last], "others"
        named = f"{', '.join(names)} and {last}"
        raise OnnxError(f"takes {len(inputs)} inputs, {named}", _IMAGES_ALONE)
    (images,) = inputs
    if not images.dtype:
        raise OnnxError(f"takes {images.name}, which is no tensor of a known type", _IMAGES_ALONE)
    if images.dtype == TEXT:
        raise OnnxError(f"takes text ({images.text})", _IMAGES_ALONE)
    if images.shape is not None and not 2 <= len(images.shape) <= 4:
        raise OnnxError(
            f"takes {images.text}, which is no batch of images",
            "export a model that takes [batch, channels, height, width]",
        )
    if images.dtype not in IMAGE_DTYPES:
        raise OnnxError(
            f"takes {images.text}", f"export a model that takes {', '.join(IMAGE_DTYPES)}"
        )


def _check_outputs(outputs: tuple[OnnxValue, ...]) -> None:
    if not outputs:
        raise OnnxError("gives no output", "export a model that gives scores of classes")
    if not any(value.dtype in _NUMBER_DTYPES for value in outputs):
        raise OnnxError(
            "gives no tensor of numbers", "export a model that gives a score for each class"
        )
