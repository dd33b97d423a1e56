"""A state dict for torch.load, written anew from what was verified in a model file.

Two readers of one file can differ: in how they take a flag of an archive, the encoding of a
name, an instruction of a pickle. What was checked must be what is loaded, so no reader but the
one that checked gets the file; torch.load gets this.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from batchdigit.storedtensor import DTYPES, StoredTensor

_STORAGE_CLASSES = {
    dtype: getattr(torch, name.removeprefix("torch.")) for name, (dtype, _) in DTYPES.items()
}
_BYTES = dict(DTYPES.values())


def write_state_archive(
    state: Mapping[str, StoredTensor],
    storages: Mapping[str, bytes | memoryview],
    byteorder: str,
) -> bytes:
    """The archive that ``torch.save`` would write of ``state``, with numbers from ``storages``."""
    stored = {(tensor.storage, tensor.dtype): None for tensor in state.values()}
    references = {
        (key, dtype): _Reference(dtype, str(place), len(storages[key]) // _BYTES[dtype])
        for place, (key, dtype) in enumerate(stored)
    }
    content = io.BytesIO()
    _StatePickler(content, references).dump(dict(state))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        # A ZipInfo of its own, because a clock that stands before 1980 is none to zipfile.
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), content.getvalue())
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), byteorder)
        for (key, _), reference in zip(stored, references.values(), strict=True):
            archive.writestr(zipfile.ZipInfo(f"archive/data/{reference.key}"), storages[key])
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
    return stream.getvalue()


@dataclass(frozen=True)
class _Reference:
    """A storage, in the words of torch/serialization.py."""

    dtype: str
    key: str
    elements: int


class _StatePickler(pickle.Pickler):
    def __init__(
        self, stream: io.BytesIO, references: Mapping[tuple[str, str], _Reference]
    ) -> None:
        super().__init__(stream, protocol=2)
        self._references = references

    def persistent_id(self, item: object) -> Any:
        if not isinstance(item, _Reference):
            return None
        return ("storage", _STORAGE_CLASSES[item.dtype], item.key, "cpu", item.elements)

    def reducer_override(self, item: object) -> Any:
        if not isinstance(item, StoredTensor):
            return NotImplemented
        storage = self._references[item.storage, item.dtype]
        no_hooks: OrderedDict[str, Any] = OrderedDict()
        return (
            torch._utils._rebuild_tensor_v2,
            (storage, item.offset, item.shape, item.strides, False, no_hooks),
        )
