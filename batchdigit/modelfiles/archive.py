"""PyTorch's archive, an uncompressed ZIP, read so strictly that no two readers can differ.

A ZIP says everything twice or three times, and readers believe different parts of it. Here all
must say the same, and every byte must belong to something. The Zip Appnote says what stands where:
the header before each member (4.3.7), what may follow it (4.3.9), the directory (4.3.12), and its
end, after a record and a locator in the ZIP64 format or without them (4.3.14 to 4.3.16).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from batchdigit.errors import CheckpointError
from batchdigit.modelfiles.file import SAVE_ANEW, SAVE_STATE, ModelFile
from batchdigit.modelfiles.limits import MAX_DIRECTORY, MAX_MEMBERS

_HEADER = struct.Struct("<4s2xHHLLLLHH")
_ENTRY = struct.Struct("<4s4xHHLLLLHHHH6xL")
_END = struct.Struct("<4sHHHHLLH")
_WIDE_RECORD = struct.Struct("<4sQ4xLLQQQQ")
_WIDE_LOCATOR = struct.Struct("<4sLQL")
TORCHSCRIPT, EXPORTED = "TorchScript", "torch.export"
_WEIGHTS_OF_EXPORTED = "data/weights/model_weights_config.json"  # since torch 2.8
_ENCRYPTED, _SIZES_FOLLOW = 1, 8  # flags


class Member(NamedTuple):
    """A member as the directory describes it; ``offset`` is the place of its header.

    There is ``more`` to it if it has extra fields, which can hold another name, a comment, or
    another disk.
    """

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    more: bool


class Archive(NamedTuple):
    """The members by name, without the folder that they all lie in.

    ``checksums`` says whether there are any; they were right.
    """

    members: dict[str, memoryview]
    checksums: bool


def read_archive(file: ModelFile) -> Archive:
    """What the archive holds; raises CheckpointError unless ``torch.save`` may have written it."""
    start, end, count = _find_directory(file)
    members = list(_read_directory(file, start, end))
    _check_kind(file, members)
    if len(members) != count:
        raise file.refusal("is damaged: its directory does not hold what it counts")
    _check_members(file, members)
    # As torch.serialization.set_crc32_options(False) leaves them out.
    checksums = any(member.crc for member in members)
    contents: dict[str, memoryview] = {}
    ends = [*(member.offset for member in members[1:]), start]
    for member, end_of_member in zip(members, ends, strict=True):
        content = _content(file, member, end_of_member)
        name = _inner_name(member)
        if checksums and zlib.crc32(content) != member.crc:
            raise file.refusal(f"is damaged: {name} is not what was saved")
        contents[name] = content
    return Archive(contents, checksums)


def _find_directory(file: ModelFile) -> tuple[int, int, int]:
    """Where the directory starts and ends, and how many members it counts."""
    data, end = file.data, len(file.data) - _END.size
    if end < 0 or data[end : end + 4] != b"PK\x05\x06":
        raise file.refusal("is damaged: its directory does not end the file")
    _, disk, disk_of_start, here, count, size, start, comment = _END.unpack_from(data, end)
    if comment or disk or disk_of_start or here != count:
        raise file.refusal("is damaged: its directory does not end the file")
    if not count:
        raise file.refusal("is an empty archive")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise file.refusal(f"is an archive of {count} members, in {size} bytes", SAVE_ANEW)
    locator = end - _WIDE_LOCATOR.size
    if data[locator : locator + 4] == b"PK\x06\x07":
        end = locator - _WIDE_RECORD.size
        said = (b"PK\x06\x06", _WIDE_RECORD.size - 12, 0, 0, count, count, size, start)
        if (
            end < 0
            or _WIDE_LOCATOR.unpack_from(data, locator) != (b"PK\x06\x07", 0, end, 1)
            or _WIDE_RECORD.unpack_from(data, end) != said
        ):
            raise file.refusal("is damaged: its directory is in two places")
    if start + size != end:
        raise file.refusal("is damaged: its directory is not whole")
    return start, end, count


def _read_directory(file: ModelFile, start: int, end: int) -> Iterator[Member]:
    position = start
    while position < end:
        entry = file.data[position : position + _ENTRY.size]
        if len(entry) < _ENTRY.size or not entry.startswith(b"PK\x01\x02"):
            raise file.refusal("is damaged: its directory is not whole")
        _, flags, method, _time, crc, packed, size, length, *more, offset = _ENTRY.unpack(entry)
        position += _ENTRY.size
        name = file.data[position : position + length]
        extra, comment, _disk = more
        position += length + extra + comment
        if position > end:
            raise file.refusal("is damaged: its directory is not whole")
        yield Member(name, flags, method, crc, packed, size, offset, any(more))


class ProgramError(CheckpointError):
    """The archive holds a program: a ``kind`` of TORCHSCRIPT or EXPORTED.

    ``weights`` is what it says of its weights: for TorchScript a pickle, for torch.export JSON. It
    is empty if that cannot be read.
    """

    def __init__(self, file: ModelFile, kind: str, weights: bytes | memoryview) -> None:
        super().__init__(f"the model {file.path} is a {kind} program, which is code", "")
        self.kind = kind
        self.weights = weights


def _check_kind(file: ModelFile, members: list[Member]) -> None:
    """Raise CheckpointError for an archive of another kind, by the members it has or lacks."""
    names = [member.name.decode("latin-1") for member in members]
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise ProgramError(file, TORCHSCRIPT, _bytes_of(file, members, "data.pkl"))
    exported = ("/archive_format", "serialized_exported_program.json")  # since torch 2.8; before
    if any(name.endswith(exported) for name in names):
        raise ProgramError(file, EXPORTED, _bytes_of(file, members, _WEIGHTS_OF_EXPORTED))
    if "data.pkl" not in inner:
        raise file.refusal(
            "is a ZIP archive that torch.save did not write", f"give the file of {SAVE_STATE}"
        )


def _bytes_of(file: ModelFile, members: list[Member], name: str) -> bytes | memoryview:
    """What a member of that name holds, if it is stored plainly; else nothing."""
    for member in members:
        if _inner_name(member) == name and not member.method:
            header = file.data[member.offset : member.offset + _HEADER.size]
            if len(header) == _HEADER.size:
                *_, length, extra = _HEADER.unpack(header)
                start = member.offset + _HEADER.size + length + extra
                return memoryview(file.data)[start : start + member.size]
    return b""


def _check_members(file: ModelFile, members: list[Member]) -> None:
    """Raise CheckpointError unless the members are plain, and each has a name of its own."""
    if any(member.method for member in members):
        raise file.refusal("is a compressed archive, which torch.save never writes", SAVE_ANEW)
    if any(member.flags & _ENCRYPTED for member in members):
        raise file.refusal("is an encrypted archive", SAVE_ANEW)
    if any(member.more or member.name.endswith(b"/") for member in members):
        raise file.refusal("is an archive that another program has packed again", SAVE_ANEW)
    declared = sum(member.size for member in members)
    if declared > len(file.data) or any(member.packed != member.size for member in members):
        raise file.refusal(
            f"declares {len(members)} members of {declared} bytes in a file of {len(file.data)}"
        )
    if members[0].offset:
        raise file.refusal("is damaged: its first member does not start the file")
    # torch's reader ignores the case of names, and some take what is not ASCII for other text. The
    # folder may be called as the file was, if its name is the same everywhere.
    folders, _, names = zip(*(member.name.partition(b"/") for member in members), strict=True)
    plain = all(name.isascii() and name.decode().isprintable() for name in names)
    lower = all(name and name == name.lower() for name in names)
    once = len(set(names)) == len(names) and len(set(folders)) == 1
    if not (plain and lower and once) or any(byte < ord(" ") for byte in folders[0]):
        raise file.refusal("is an archive with ambiguous names")


def _content(file: ModelFile, member: Member, end: int) -> memoryview:
    """The bytes of a member, which stands between ``member.offset`` and ``end`` with all about it.

    What is in its header must be what is in the directory. Where its sizes follow it, the header
    has none, and a record behind it has them. The only extra field is that with which torch puts
    the bytes at a multiple of 64.
    """
    name = _inner_name(member)
    sizes = (member.crc, member.packed, member.size)
    follow = bool(member.flags & _SIZES_FOLLOW)
    header = file.data[member.offset : member.offset + _HEADER.size]
    if len(header) < _HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise file.refusal(f"is damaged: {name} is not where it should be")
    _, flags, method, _time, *said, length, extra = _HEADER.unpack(header)
    start = member.offset + _HEADER.size + length + extra
    again = file.data[member.offset + _HEADER.size : start - extra]
    padding = file.data[start - extra : start]
    same = (flags, method, again) == (member.flags, member.method, member.name)
    if extra and padding[:4] != b"FB" + struct.pack("<H", extra - 4):
        raise file.refusal(f"is damaged: the header of {name} holds more than its name")
    if not same or tuple(said) != ((0, 0, 0) if follow else sizes):
        raise file.refusal(f"is damaged: {name} is described in two ways")
    behind = file.data[start + member.size : end]
    records = [struct.pack(form, *sizes) for form in ("<LLL", "<LQQ")] if follow else [b""]
    marked = [b"PK\x07\x08" + record for record in records] if follow else []
    if start + member.size > end or behind not in (*records, *marked):
        raise file.refusal(f"is damaged: {name} is not alone in its place")
    return memoryview(file.data)[start : start + member.size]


def _inner_name(member: Member) -> str:
    """Its name without the folder."""
    return member.name.partition(b"/")[2].decode("latin-1")
