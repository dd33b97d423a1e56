"""What a model file declares, checked against its bytes before any of it is built.

No size, count or place that a file declares is believed. :mod:`batchdigit.models.weights` may take
numbers from what passes.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchdigit.modelfiles.file import (
    ARCHIVE,
    OLD_FORMAT,
    SAFETENSORS,
    SAVE_ANEW,
    SAVE_STATE,
    ModelFile,
    safetensors_header,
)
from batchdigit.modelfiles.pickle_machine import PickleError
from batchdigit.modelfiles.pickled import Pickle, PickleTooLargeError, read_pickle
from batchdigit.modelfiles.tensors import MAX_DIMENSIONS, Declarations, StoredTensor, check_sizes

MAX_MEMBERS = 10_000

Buffer = bytes | memoryview

# What zipfile raises for damage of every kind.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    ValueError,
    NotImplementedError,
    EOFError,
    OverflowError,
    IndexError,
    struct.error,
)

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

    ``globals`` are the classes and functions that its pickles name. ``excess`` says what it
    declares beyond what it holds, or is empty. ``storages`` are the bytes of each storage by its
    key, in the order of bytes that ``byteorder`` names; safetensors has none. ``checksums`` says
    whether the file has any; they were right.
    """

    root: Any
    storages: Mapping[str, Buffer] = field(default_factory=dict)
    byteorder: str = "little"
    globals: tuple[str, ...] = ()
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
    """Check directory, sizes and checksums of a ZIP, then read its pickle."""
    # Each member has such an entry; a million of them cost zipfile a minute and a gigabyte.
    if file.data.count(b"PK\x01\x02") > MAX_MEMBERS:
        raise file.refusal(f"is an archive of more than {MAX_MEMBERS} members", SAVE_ANEW)
    try:
        archive = zipfile.ZipFile(io.BytesIO(file.data))
    except _ZIP_ERRORS as error:
        raise file.refusal("is damaged: its directory is not whole") from error
    with archive:
        members = archive.infolist()
        _check_archive(file, members)
        root = members[0].filename.partition("/")[0]
        checksums = any(member.CRC for member in members)
        contents: dict[str, bytes] = {}
        for member in members:
            if not checksums:  # as torch.serialization.set_crc32_options(False) leaves them out
                member.CRC = None  # type: ignore[assignment]
            contents[member.filename.removeprefix(f"{root}/")] = _read_member(file, archive, member)
    declarations = Declarations()
    pickle = _read_pickle(file, contents["data.pkl"], 0, declarations)
    for key, (elements, size) in declarations.storages.items():
        held = contents.get(f"data/{key}")
        if held is None or len(held) != elements * size:
            declarations.excess = declarations.excess or (
                f"declares {elements * size} bytes in storage {key} and holds {len(held or b'')}"
            )
    byteorder = contents.get("byteorder", b"little")
    if byteorder not in (b"little", b"big"):
        raise file.refusal("is damaged: its order of bytes is unknown")
    return Contents(
        root=pickle.root,
        storages={
            name.removeprefix("data/"): content
            for name, content in contents.items()
            if name.startswith("data/")
        },
        byteorder=byteorder.decode(),
        globals=tuple(pickle.globals),
        excess=declarations.excess,
        checksums=checksums,
    )


def _read_member(file: ModelFile, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(member)
    except _ZIP_ERRORS as error:
        raise file.refusal(f"is damaged: {member.filename} is not what was saved") from error


def _check_archive(file: ModelFile, members: list[zipfile.ZipInfo]) -> None:
    """Raise CheckpointError unless ``torch.save`` may have written the archive.

    It must also mean the same to every reader.
    """
    names = [member.filename for member in members]
    if not names:
        raise file.refusal("is an empty archive")
    _check_kind(file, names)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise file.refusal("is a compressed archive, which torch.save never writes", SAVE_ANEW)
    if any(member.flag_bits & 1 for member in members):
        raise file.refusal("is an encrypted archive", SAVE_ANEW)
    declared = sum(member.file_size for member in members)
    if declared > len(file.data):
        raise file.refusal(
            f"declares {len(members)} members of {declared} bytes in a file of {len(file.data)}"
        )
    # Other readers, for example torch's, ignore the case of names.
    if (
        len({name.lower() for name in names}) < len(names)
        or len({name.partition("/")[0] for name in names}) > 1
    ):
        raise file.refusal("is an archive with ambiguous names")
    # Python's reader accepts bytes before the archive, and a comment after its directory (Zip
    # Appnote 4.3.16: 22 bytes, the last two the comment's length). Another reader could find
    # another archive there.
    if min(member.header_offset for member in members) != 0:
        raise file.refusal("is damaged: its first member does not start the file")
    if file.data[-22:-18] != b"PK\x05\x06" or file.data[-2:] != b"\0\0":
        raise file.refusal("is damaged: its directory does not end the file")


def _check_kind(file: ModelFile, names: list[str]) -> None:
    """Raise CheckpointError for an archive of another kind, by the members it has or lacks."""
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise file.refusal(
            "is a TorchScript program, which is code",
            f"convert it, if you trust it: torch.save(torch.jit.load({str(file.path)!r})"
            ".state_dict(), 'weights.pt')",
        )
    exported = ("/archive_format", "serialized_exported_program.json")  # since torch 2.8; before
    if any(name.endswith(exported) for name in names):
        raise file.refusal(
            "is a torch.export program, which is code",
            f"convert it, if you trust it: torch.save(torch.export.load({str(file.path)!r})"
            ".state_dict, 'weights.pt')",
        )
    if "data.pkl" not in inner:
        raise file.refusal(
            "is a ZIP archive that torch.save did not write", f"give the file of {SAVE_STATE}"
        )


def _scan_old(file: ModelFile) -> Contents:
    """Read the five pickles, then check the storages behind them."""
    pickles: list[Pickle] = []
    position = 0
    declarations = Declarations()
    for _ in range(5):
        pickles.append(_read_pickle(file, file.data, position, declarations))
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
        excess=declarations.excess or excess,
    )


def _old_storages(
    data: bytes, position: int, keys: Any, declared: dict[str, tuple[int, int]]
) -> tuple[dict[str, Buffer], str]:
    """The storages that follow the pickles, and what is wrong with them (empty for nothing)."""
    storages: dict[str, Buffer] = {}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        return storages, "does not list its storages"
    if sorted(keys) != sorted(declared):
        return storages, "does not list the storages that it declares"
    for key in keys:
        elements, size = declared[key]
        end = position + 8 + elements * size
        if end > len(data) or struct.unpack_from("<q", data, position) != (elements,):
            return storages, f"declares {elements} elements in storage {key}, which are not there"
        storages[key] = memoryview(data)[position + 8 : end]
        position = end
    return storages, "" if position == len(data) else "has bytes behind its end"


def _read_pickle(file: ModelFile, data: bytes, position: int, declarations: Declarations) -> Pickle:
    try:
        pickle = read_pickle(data, position, declarations.resolve)
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
