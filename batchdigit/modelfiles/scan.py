"""What a model file declares, checked against its bytes before any of it is built.

No size, count or place that a file declares is believed. :mod:`batchdigit.models.weights` may take
numbers from what passes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchdigit.modelfiles.archive import read_archive
from batchdigit.modelfiles.file import (
    ARCHIVE,
    OLD_FORMAT,
    SAFETENSORS,
    SAVE_STATE,
    ModelFile,
    safetensors_header,
)
from batchdigit.modelfiles.limits import MAX_DIMENSIONS, PickleError, PickleTooLargeError, Work
from batchdigit.modelfiles.pickled import Pickle, read_pickle
from batchdigit.modelfiles.standins import Instance
from batchdigit.modelfiles.tensors import Declarations, Storage, StoredTensor, check_sizes

Buffer = bytes | memoryview

_OLD_MAGIC = 0x1950A86A20F9469CFC6C

SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, eq=False)
class Contents:
    """What a model file holds: plain Python data with StoredTensor and Instance in it.

    ``globals`` are the classes and functions that its pickles name, ``calls`` those calls with
    arguments that make no tensor, also those whose result the pickle drops. ``excess`` says what it
    declares beyond what it holds, or is empty. ``storages`` are the bytes of each storage by its
    key, in the order of bytes that ``byteorder`` names; safetensors has none. ``checksums`` says
    whether the file has any; they were right.
    """

    root: Any
    storages: Mapping[str, Buffer] = field(default_factory=dict)
    byteorder: str = "little"
    globals: tuple[str, ...] = ()
    calls: Sequence[Instance] = ()
    excess: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    checksums: bool = False


def scan(file: ModelFile) -> Contents:
    """What the file holds, read as data.

    Raises CheckpointError where the file is damaged or of another format.
    """
    scanners = {ARCHIVE: _scan_archive, OLD_FORMAT: _scan_old, SAFETENSORS: _scan_safetensors}
    if (scanner := scanners.get(file.format)) is not None:
        return scanner(file)
    what, remedy = file.describe_foreign()
    raise file.refusal(f"is {what}", remedy)


def _scan_archive(file: ModelFile) -> Contents:
    """Read the pickle of an archive, and compare what it declares with the members."""
    members, checksums = read_archive(file)
    declarations = Declarations()
    pickle = _read_pickle(file, members["data.pkl"], 0, declarations, Work())
    for key, stored in declarations.storages.items():
        held = len(members.get(f"data/{key}", b""))
        if held != stored.bytes:
            declarations.excess = declarations.excess or (
                f"declares {stored.bytes} bytes in storage {key} and holds {held}"
            )
    byteorder = bytes(members.get("byteorder", b"little"))
    if byteorder not in (b"little", b"big"):
        raise file.refusal("is damaged: its order of bytes is unknown")
    return Contents(
        root=pickle.root,
        storages={
            name.removeprefix("data/"): content
            for name, content in members.items()
            if name.startswith("data/")
        },
        byteorder=byteorder.decode(),
        globals=tuple(pickle.globals),
        calls=declarations.calls,
        excess=declarations.excess,
        checksums=checksums,
    )


def _scan_old(file: ModelFile) -> Contents:
    """Read the five pickles, then check the storages behind them."""
    pickles: list[Pickle] = []
    position = 0
    declarations, work = Declarations(), Work()
    for _ in range(5):
        pickles.append(_read_pickle(file, file.data, position, declarations, work))
        position = pickles[-1].end
    magic, _version, system, content, keys = pickles
    if magic.root != _OLD_MAGIC or not isinstance(system.root, dict):
        raise file.refusal("is damaged: it does not start as torch.save starts a file")
    if system.root.get("little_endian") is not True:
        raise file.refusal(
            "was saved on a big-endian machine",
            f"save it there with torch 1.6 or later: {SAVE_STATE}",
        )
    storages, excess = _old_storages(file.data, position, keys.root, declarations.storages)
    return Contents(
        root=content.root,
        storages=storages,
        globals=tuple({name: None for pickle in pickles for name in pickle.globals}),
        calls=declarations.calls,
        excess=declarations.excess or excess,
    )


def _old_storages(
    data: bytes, position: int, keys: Any, declared: Mapping[str, Storage]
) -> tuple[dict[str, Buffer], str]:
    """The storages that follow the pickles, and what is wrong with them (empty for nothing)."""
    storages: dict[str, Buffer] = {}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        return storages, "does not list its storages"
    if len(keys) != len(declared) or set(keys) != declared.keys():
        return storages, "does not list the storages that it declares"
    for key in keys:
        elements = declared[key].elements
        end = position + 8 + declared[key].bytes
        if end > len(data) or struct.unpack_from("<q", data, position) != (elements,):
            return storages, f"declares {elements} elements in storage {key}, which are not there"
        storages[key] = memoryview(data)[position + 8 : end]
        position = end
    return storages, "" if position == len(data) else "has bytes behind its end"


def _read_pickle(
    file: ModelFile, data: Buffer, position: int, declarations: Declarations, work: Work
) -> Pickle:
    try:
        pickle = read_pickle(data, position, declarations.resolve, work)
    except PickleTooLargeError as error:
        raise file.refusal(
            f"holds {error}, which weights never need", f"save the weights alone, by {SAVE_STATE}"
        ) from error
    except PickleError as error:
        raise file.refusal(f"holds {error}") from error
    return pickle


def _scan_safetensors(file: ModelFile) -> Contents:
    """What the header declares; the safetensors package checks that it fits the bytes."""
    header = safetensors_header(file.data) or {}
    metadata = header.pop("__metadata__", None) or {}
    try:
        tensors = {name: _safetensors_entry(name, **entry) for name, entry in header.items()}
        metadata = {str(key): str(value) for key, value in metadata.items()}
        for text in (*tensors, *metadata, *metadata.values()):
            text.encode()  # JSON can hold characters that no other text can
    except (TypeError, ValueError, AttributeError) as error:
        raise file.refusal("is damaged: its header is not of the safetensors format") from error
    return Contents(root=tensors, metadata=metadata)


def _safetensors_entry(
    name: str, dtype: str, shape: list[int], data_offsets: list[int]
) -> StoredTensor:
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError("more dimensions than any layer has")
    check_sizes([*shape, *data_offsets])
    start, end = data_offsets
    if math.prod(shape) > end - start:  # every dtype that is accepted takes at least a byte
        raise ValueError("more elements than bytes")
    strides = tuple(math.prod(shape[place + 1 :]) for place in range(len(shape)))
    dtype = SAFETENSORS_DTYPES.get(dtype, str(dtype))
    return StoredTensor(dtype, tuple(shape), storage=name, strides=strides)
