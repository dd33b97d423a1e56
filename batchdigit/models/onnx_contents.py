"""The graphs of an ONNX file: which operators and which tensors are in them, at any depth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from batchdigit.modelfiles.limits import MAX_DIMENSIONS, MAX_NAME, MAX_TENSORS
from batchdigit.modelfiles.tensors import StoredTensor
from batchdigit.models.onnx_messages import (
    ATTRIBUTE,
    DATA_TYPES,
    GRAPH,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    NODE,
    SPARSE_TENSOR,
    TENSOR,
    TEXT,
    is_standard,
)
from batchdigit.models.protobuf import Fields, count_numbers, read_numbers

MAX_DEPTH = 20  # subgraphs within each other, and functions that call each other
MAX_SUBGRAPHS = 1_000  # an If has two
MAX_OPERATORS = 1_000  # different ones; the standard has 200
MAX_CALLS = 1_000_000  # of operators, once every function is written out where it is called
EXPORT_AGAIN = "copy it again, or export it again"
ONE_FILE = "save it in one file: onnx.save(model, path, save_as_external_data=False)"

_SPARSE_INITIALIZER = 15
_TENSOR_FIELDS = (5, 10)  # of an attribute
_GRAPH_FIELDS = (6, 11)
_SPARSE_FIELDS = (22, 23)
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 9, 13, 14
_DATA = (4, 5, 6, 7, 10, 11)  # of a tensor, one for each way to write numbers
_NO_TEXT = memoryview(b"")


class OnnxError(ValueError):
    """A file that is refused: what the problem is, and what helps."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class Call(NamedTuple):
    """An operator or a function, as a node names it."""

    domain: str
    name: str
    overload: str

    @classmethod
    def of(cls, domain: str, name: str, overload: str) -> Call:
        """The same for both names of the standard domain."""
        return cls("" if domain == "ai.onnx" else domain, name, overload)

    @property
    def text(self) -> str:
        """As messages name it."""
        return f"{self.domain}::{self.name}" if self.domain else self.name


@dataclass(eq=False)
class Body:
    """What a graph or a function does, its subgraphs included."""

    opsets: Mapping[str, int]
    calls: Counter[Call] = field(default_factory=Counter)


class GraphReader:
    """Reads graphs, and refuses what must not be in any.

    A graph within a graph waits until the one around it is read, so that depth costs no recursion.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self._waiting: list[tuple[memoryview, int]] = []
        self._subgraphs = 0
        self._operators: set[Call] = set()
        self._depth = 0

    def graph(
        self, message: memoryview, body: Body
    ) -> tuple[dict[int, list[Any]], dict[str, StoredTensor]]:
        """The inputs and outputs of a model's graph, as messages, and its initializers.

        What it and its subgraphs do is added to ``body``. Raises OnnxError or ProtobufError.
        """
        values: dict[int, list[Any]] = {GRAPH_INPUT: [], GRAPH_OUTPUT: []}
        initializers = self._graph(message, body, values)
        self.finish(body)
        return values, initializers

    def finish(self, body: Body) -> None:
        """Read the subgraphs that wait, and check which operators ``body`` uses."""
        while self._waiting:
            message, self._depth = self._waiting.pop()
            self._graph(message, body, {})
        self._depth = 0
        used = {call.domain for call in body.calls if is_standard(call.domain)}
        for domain in sorted(used - set(body.opsets)):
            raise OnnxError(
                f"does not say of which version its operators of {domain or 'ai.onnx'} are",
                EXPORT_AGAIN,
            )

    def _graph(
        self, message: memoryview, body: Body, values: dict[int, list[Any]]
    ) -> dict[str, StoredTensor]:
        initializers: dict[str, StoredTensor] = {}
        for number, content, _ in self.fields.read(message, GRAPH):
            if number == GRAPH_NODE:
                self.node(content, body)
            elif number == GRAPH_INITIALIZER:
                name, tensor = read_tensor(self.fields, content)
                if name in initializers:
                    raise OnnxError(f"holds the weights {name} twice", EXPORT_AGAIN)
                if tensor.dtype == TEXT:
                    raise OnnxError(f"has text among its weights ({name})", EXPORT_AGAIN)
                initializers[name] = tensor
                if len(initializers) > MAX_TENSORS:
                    raise OnnxError(f"holds more than {MAX_TENSORS} tensors", EXPORT_AGAIN)
            elif number == _SPARSE_INITIALIZER:
                self._refuse_sparse(content)
            elif number in values:
                values[number].append(content)
                if len(values[number]) > MAX_TENSORS:
                    raise OnnxError(f"has more than {MAX_TENSORS} inputs or outputs", EXPORT_AGAIN)
        return initializers

    def node(self, message: memoryview, body: Body) -> None:
        """Add one node and what is in its attributes to ``body``."""
        found = self.fields.keep(message, NODE, (4, 5, 7, 8))
        call = Call.of(read_text(*found[7]), read_text(*found[4]), read_text(*found[8]))
        if not call.name:
            raise OnnxError("holds a node without an operator", EXPORT_AGAIN)
        body.calls[call] += 1
        self._operators.add(call)
        if len(self._operators) > MAX_OPERATORS:
            raise OnnxError(f"uses more than {MAX_OPERATORS} operators", EXPORT_AGAIN)
        for content in found[5]:
            self.attribute(content, body)

    def attribute(self, message: memoryview, body: Body) -> None:
        """Check what is in one attribute."""
        wanted = (*_TENSOR_FIELDS, *_GRAPH_FIELDS, *_SPARSE_FIELDS)
        for number, content, _ in self.fields.read(message, ATTRIBUTE):
            if number not in wanted:
                continue
            if number in _TENSOR_FIELDS:
                read_tensor(self.fields, content)
            elif number in _SPARSE_FIELDS:
                self._refuse_sparse(content)
            else:
                self._subgraphs += 1
                if self._depth == MAX_DEPTH or self._subgraphs > MAX_SUBGRAPHS:
                    raise OnnxError("holds too many graphs within graphs", EXPORT_AGAIN)
                self._waiting.append((content, self._depth + 1))

    def _refuse_sparse(self, message: memoryview) -> None:
        """Refuse a sparse tensor, which may be of any size however small the file is."""
        found = self.fields.keep(message, SPARSE_TENSOR, (1, 2))
        for content in (*found[1], *found[2]):
            read_tensor(self.fields, content)  # for what is worse
        raise OnnxError("holds a sparse tensor", "export it with dense tensors alone")


def read_tensor(fields: Fields, message: memoryview) -> tuple[str, StoredTensor]:
    """The name and the kind of a tensor.

    Raises OnnxError unless all of its numbers are in the file, as many as its shape has.
    """
    dims: list[int] = []
    entries: Counter[int] = Counter()
    found: dict[int, Any] = {}
    for number, content, _ in fields.read(message, TENSOR):
        if number == _DIMS:
            dims += read_numbers(content, MAX_DIMENSIONS)
            if len(dims) > MAX_DIMENSIONS:
                raise OnnxError("holds a tensor of too many dimensions", EXPORT_AGAIN)
        elif number in _DATA:
            entries[number] += count_numbers(content, TENSOR.often[number])
        else:
            found[number] = content
    if _EXTERNAL_DATA in found or found.get(_DATA_LOCATION):
        raise OnnxError("keeps its weights in another file", ONE_FILE)
    name = read_text(found.get(_NAME, _NO_TEXT))
    shown = name or "a tensor"
    kind = DATA_TYPES.get(found.get(_DATA_TYPE, 0))
    if kind is None:
        raise OnnxError(f"holds {shown} of an unknown type", EXPORT_AGAIN)
    if any(size >> 63 for size in dims):  # a negative one
        raise OnnxError(f"holds {shown} of impossible size", EXPORT_AGAIN)
    stored = StoredTensor(kind.name, tuple(dims))
    if _RAW_DATA in found:
        needed = math.ceil(stored.elements * kind.bits / 8)
        fits = len(found[_RAW_DATA]) == needed and not entries and kind.name != TEXT
    else:
        entries_needed = math.ceil(stored.elements / kind.per_entry)
        fits = entries[kind.field] == entries_needed == entries.total()
    if not fits:
        raise OnnxError(
            f"holds {shown}, which has more or fewer numbers than its shape {dims}", EXPORT_AGAIN
        )
    return name, stored


def read_text(content: memoryview = _NO_TEXT) -> str:
    """A name. Raises OnnxError for one that is no text, not printable, or longer than MAX_NAME."""
    try:
        text = bytes(content[: 4 * MAX_NAME]).decode()
    except UnicodeDecodeError:
        text = "\0"
    if len(content) > MAX_NAME or not text.isprintable():
        raise OnnxError("holds a name that is too long, or cannot be printed", EXPORT_AGAIN)
    return text


def counted_operators(main: Body, functions: Mapping[Call, Body]) -> dict[str, int]:
    """How often each operator and function stands in a model.

    Raises OnnxError for an operator that is neither of the ONNX standard nor a function of the
    model, for functions that call themselves, and for a few that amount to very many operators.
    """
    counts: Counter[str] = Counter()
    for body in (main, *functions.values()):
        for call, count in body.calls.items():
            if call not in functions and not is_standard(call.domain):
                raise OnnxError(
                    f"uses the operator {call.text}, which is not of the ONNX standard",
                    "export it with the standard's operators alone",
                )
            counts[call.text] += count
    _check_amount(main, functions)
    return dict(counts)


def _check_amount(main: Body, functions: Mapping[Call, Body]) -> None:
    called = {
        call: [each for each in functions[call].calls if each in functions] for call in functions
    }
    try:
        order = list(TopologicalSorter(called).static_order())
    except CycleError:
        raise OnnxError("holds a function that calls itself", EXPORT_AGAIN) from None
    amounts: dict[Call, int] = {}
    depths: dict[Call, int] = {}
    for call in order:
        amounts[call] = _amount(functions[call], amounts)
        depths[call] = 1 + max((depths[each] for each in called[call]), default=0)
    if _amount(main, amounts) > MAX_CALLS or max(depths.values(), default=0) > MAX_DEPTH:
        raise OnnxError("holds functions that amount to too many operators", EXPORT_AGAIN)


def _amount(body: Body, amounts: Mapping[Call, int]) -> int:
    return sum(count * amounts.get(call, 1) for call, count in body.calls.items())
