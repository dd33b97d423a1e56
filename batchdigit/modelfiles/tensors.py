"""Tensors as a pickle of ``torch.save`` declares them, checked before anything is built.

A pickled tensor is a call of ``torch._utils._rebuild_tensor_v2(storage, offset, shape, strides,
...)``, and its storage a reference ``("storage", type, key, location, elements)`` to bytes outside
the pickle (torch/serialization.py, torch/_utils.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from batchdigit.modelfiles.standins import Instance, PersistentId

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
}
_REBUILD_TENSOR = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"

TENSOR_DATA = frozenset(
    {
        *DTYPES,
        *_REBUILD_TENSOR,
        _REBUILD_PARAMETER,
        "collections.Counter",
        "collections.OrderedDict",
        "builtins.set",
        "torch.Size",
        "torch.device",
    }
)
"""The classes and functions by which plain data is pickled."""

MAX_DIMENSIONS = 8  # convolutions have 4


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
class _Storage:
    key: str
    dtype: str
    start: int
    elements: int


class Declarations:
    """Checks what a pickle declares about its tensors, one call at a time.

    Every call counts, even one whose result the pickle drops, because torch.save writes no such
    call. ``excess`` says what was wrong first, or is empty.
    """

    def __init__(self) -> None:
        self.storages: dict[str, tuple[int, int]] = {}  # key to elements and bytes of each
        self.excess = ""

    def resolve(self, node: Instance | PersistentId) -> Any:
        """What stands for a call or a reference in the tree."""
        try:
            if isinstance(node, PersistentId):
                return self._storage(node.pid)
            if node.global_name in _REBUILD_TENSOR:
                return self._tensor(*node.args[:4])
            if node.global_name == _REBUILD_PARAMETER:
                return self._parameter(*node.args[:1])
        except (TypeError, ValueError) as error:
            self.excess = self.excess or f"declares an impossible tensor ({error})"
        return node

    def _storage(self, pid: Any) -> _Storage:
        kind, storage_type, key, _location, elements, *view = pid
        if kind != "storage" or not isinstance(key, str):
            raise ValueError("an unknown reference")
        dtype, size = DTYPES[_name_of(storage_type)]
        check_sizes([elements])
        if self.storages.setdefault(key, (elements, size)) != (elements, size):
            raise ValueError(f"storage {key} twice, differently")
        start = 0
        if view and view[0] is not None:
            _, start, elements_of_view = view[0]
            check_sizes([start, elements_of_view])
            if start + elements_of_view > elements:
                raise ValueError(f"a part of storage {key} that lies outside it")
            elements = elements_of_view
        return _Storage(key, dtype, start, elements)

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
        if not isinstance(storage, _Storage):
            raise TypeError("without a storage")
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

    def _parameter(self, data: Any) -> StoredTensor:
        if not isinstance(data, StoredTensor):
            raise TypeError("a parameter that is not a tensor")
        return data


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
