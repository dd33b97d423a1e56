"""Tensors as a pickle of ``torch.save`` declares them, checked before anything is built.

A pickled tensor is a call of ``torch._utils._rebuild_tensor_v2(storage, offset, shape, strides,
...)``, and its storage a reference ``("storage", type, key, location, elements)`` to bytes outside
the pickle (torch/serialization.py, torch/_utils.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from batchdigit.modelfiles.limits import MAX_DIMENSIONS, MAX_NAME, MAX_TENSORS
from batchdigit.modelfiles.standins import Instance, PersistentId

UNTYPED = "bytes"
PROTOCOL_0 = "was saved with pickle_protocol=0, so that not even torch can load it"
DTYPES = {  # for each of torch's storage classes: the name of its type, the bytes of an element
    "torch.DoubleStorage": ("float64", 8),
    "torch.FloatStorage": ("float32", 4),
    "torch.HalfStorage": ("float16", 2),
    "torch.BFloat16Storage": ("bfloat16", 2),
    "torch.LongStorage": ("int64", 8),
    "torch.IntStorage": ("int32", 4),
    "torch.ShortStorage": ("int16", 2),
    "torch.CharStorage": ("int8", 1),
    "torch.ByteStorage": ("uint8", 1),
    "torch.BoolStorage": ("bool", 1),
    "torch.ComplexDoubleStorage": ("complex128", 16),
    "torch.ComplexFloatStorage": ("complex64", 8),
    "torch.storage.UntypedStorage": (UNTYPED, 1),  # of types that torch added later
}
_REBUILD_TENSOR = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_MAX_OTHERS = 2  # arguments

TENSOR_DATA = frozenset(
    {
        *DTYPES,
        *_REBUILD_TENSOR,
        _REBUILD_PARAMETER,
        "collections.Counter",
        "collections.OrderedDict",
        "builtins.object",
        "builtins.set",
        "copyreg._reconstructor",
        "torch.Size",
        "torch.device",
    }
)
"""The classes and functions by which plain data is pickled."""


@dataclass(frozen=True)
class StoredTensor:
    """What a file declares about a tensor, found to lie within the file.

    ``storage`` is the key of the storage that holds its numbers; ``offset`` and ``strides`` say
    where in it, in elements.
    """

    dtype: str
    shape: tuple[int, ...]
    storage: str = field(default="", compare=False)
    offset: int = field(default=0, compare=False)
    strides: tuple[int, ...] = field(default=(), compare=False)

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Storage:
    """What a file declares about a storage: numbers of one type outside the pickle."""

    dtype: str
    elements: int
    bytes: int


@dataclass(frozen=True)
class StorageView:
    """The part of a storage that a tensor lies in, in elements."""

    key: str
    dtype: str
    start: int
    elements: int


class ProtocolZeroError(ValueError):
    """A reference is written as text, as pickles of protocol 0 do it."""


class Declarations:
    """Checks what a pickle declares about its tensors, one call at a time.

    Every call counts, even one whose result the pickle drops, because torch.save writes no such
    call. ``excess`` says what was wrong first, or is empty. ``calls`` are those that make no
    tensor.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self.excess = ""
        self.calls: list[Instance] = []
        self._views: dict[Any, StorageView] = {}
        self._tensors = 0

    def resolve(self, node: Instance | PersistentId) -> Any:
        """What stands for a call or a reference in the tree."""
        try:
            if isinstance(node, PersistentId):
                return self._storage(node.pid)
            if node.global_name in _REBUILD_TENSOR:
                return self._tensor(*node.args)
            if node.global_name == _REBUILD_PARAMETER:
                return self._parameter(*node.args)
        except ProtocolZeroError:
            self.excess = self.excess or PROTOCOL_0
        except (TypeError, ValueError) as error:
            self.excess = self.excess or f"declares an impossible tensor ({error})"
        if isinstance(node, Instance) and node.args:
            self.calls.append(node)
        return node

    def _storage(self, pid: Any) -> StorageView:
        if isinstance(pid, str) and pid.startswith("('storage', "):
            raise ProtocolZeroError
        # One reference can be used any number of times, so nothing of it may be long.
        if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6:
            raise ValueError("an unknown reference")
        kind, storage_type, key, location, elements, *view = pid
        if kind != "storage" or not isinstance(key, str) or len(key) > MAX_NAME:
            raise ValueError("an unknown reference")
        if location == "meta":  # where PyTorch puts tensors that have no numbers
            raise ValueError("without numbers")
        dtype, size = DTYPES[_name_of(storage_type)]
        check_sizes([elements])
        declared = Storage(dtype, elements, elements * size)
        if self.storages.setdefault(key, declared) != declared:
            raise ValueError(f"storage {key} twice, differently")
        if not view or view[0] is None:
            return StorageView(key, dtype, 0, elements)
        name, start, elements_of_view = view[0]  # as before torch 0.4
        check_sizes([start, elements_of_view])
        if start + elements_of_view > elements:
            raise ValueError(f"a part of storage {key} that lies outside it")
        part = StorageView(key, dtype, start, elements_of_view)
        if not isinstance(name, str) or self._views.setdefault(name, part) != part:
            raise ValueError(f"a part of storage {key} twice, differently")
        return part

    def _tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *others: Any
    ) -> StoredTensor:
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise ValueError(f"more than {MAX_TENSORS} of them")
        if not isinstance(storage, StorageView) or storage.dtype == UNTYPED:
            raise TypeError("without a storage")
        _check_others(others)
        shape, strides = _plain_sizes(shape), _plain_sizes(strides)
        check_sizes([offset, *shape, *strides])
        # A stride is never used along a dimension of length 1, and may be any number.
        strides = tuple(
            stride if length > 1 else 1 for length, stride in zip(shape, strides, strict=True)
        )
        elements = math.prod(shape)
        steps = zip(shape, strides, strict=True)
        last = offset + sum((length - 1) * stride for length, stride in steps)
        # A stride of 0 makes any number of elements out of one; weights are not saved like that.
        if elements > storage.elements or (elements and last >= storage.elements):
            raise ValueError(f"{elements} elements in a storage of {storage.elements}")
        return StoredTensor(storage.dtype, shape, storage.key, storage.start + offset, strides)

    def _parameter(self, data: Any, *others: Any) -> StoredTensor:
        if not isinstance(data, StoredTensor):
            raise TypeError("a parameter that is not a tensor")
        _check_others(others)
        return data


def _check_others(arguments: tuple[Any, ...]) -> None:
    """Raise ValueError unless what follows says no more than whether there is a gradient.

    It is whether one is required, then hooks, then metadata, among them that all numbers are to be
    negated. (torch/_utils.py)
    """
    gradient, *more = arguments or (False,)
    if not isinstance(gradient, bool) or len(more) > _MAX_OTHERS or any(map(_is_something, more)):
        raise ValueError("with metadata")


def _is_something(argument: Any) -> bool:
    return argument is not None and argument != {}


def _plain_sizes(sizes: Any) -> tuple[int, ...]:
    """A shape, which old files hold as a torch.Size."""
    if isinstance(sizes, Instance) and sizes.global_name == "torch.Size":
        (sizes,) = sizes.args
    if not isinstance(sizes, tuple | list):
        raise TypeError("without a shape")
    if len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"of {len(sizes)} dimensions")
    return tuple(sizes)


def check_sizes(sizes: list[Any]) -> None:
    """Raise ValueError unless all are whole numbers that fit a file's 64 bits."""
    if not all(type(size) is int and 0 <= size < 1 << 63 for size in sizes):
        raise ValueError("of impossible size")


def _name_of(storage_type: Any) -> str:
    name = getattr(storage_type, "global_name", "")
    if name not in DTYPES:
        raise ValueError(f"of the unknown type {name}")
    return str(name)
