"""Archives that two readers could take for different ones are refused."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from batchdigit import CheckpointError
from batchdigit.modelfiles.archive import read_archive
from batchdigit.modelfiles.file import ModelFile

HEADER = dict.fromkeys(("version", "flags", "method", "time", "date"), 0)


@dataclass
class Member:
    """A member of a ZIP; ``header`` and ``entry`` replace what is said of it in the two places."""

    name: bytes
    content: bytes = b"1"
    header: Mapping[str, int] = field(default_factory=dict)
    entry: Mapping[str, int] = field(default_factory=dict)
    name_in_header: bytes | None = None
    extra: bytes = b""  # in the directory
    comment: bytes = b""
    behind: bytes = b""

    def facts(self) -> dict[str, int]:
        size = len(self.content)
        return {**HEADER, "crc": zlib.crc32(self.content), "packed": size, "size": size}


def zipped(members: list[Member], *, between: bytes = b"", **end: int) -> bytes:
    """A ZIP of these members; ``end`` replaces what its last record says."""
    data, directory = bytearray(), bytearray()
    for member in members:
        said = {**member.facts(), **member.header}
        name = member.name if member.name_in_header is None else member.name_in_header
        listed = {**member.facts(), "offset": len(data), **member.entry}
        offset = listed.pop("offset")
        data += b"PK\x03\x04" + struct.pack("<5H3L", *said.values())
        data += struct.pack("<2H", len(name), 0) + name + member.content + member.behind
        directory += b"PK\x01\x02\0\0" + struct.pack("<5H3L", *listed.values())
        lengths = (len(member.name), len(member.extra), len(member.comment))
        directory += struct.pack("<5H2L", *lengths, 0, 0, 0, offset)
        directory += member.name + member.extra + member.comment
    start = len(data)
    count = len(members)
    facts = {"disk": 0, "first": 0, "here": count, "count": count, "size": len(directory)}
    facts |= {"start": start + len(between)} | end
    return bytes(
        data + between + directory + b"PK\x05\x06" + struct.pack("<4H2LH", *facts.values(), 0)
    )


PICKLE = Member(b"a/data.pkl", b"pickle")
ORDER = Member(b"a/byteorder", b"little")
NUMBERS = Member(b"a/data/0", b"\0" * 8)
GOOD = [PICKLE, ORDER, NUMBERS]


def read(data: bytes) -> dict[str, bytes]:
    archive = read_archive(ModelFile(Path("CNN.pt"), data))
    return {name: bytes(content) for name, content in archive.members.items()}


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(data)
    assert caught.value.remedy
    return str(caught.value)


def test_handmade_archive_is_read() -> None:
    contents = {"data.pkl": b"pickle", "byteorder": b"little", "data/0": b"\0" * 8}
    assert read(zipped(GOOD)) == contents
    assert read_archive(ModelFile(Path("CNN.pt"), zipped(GOOD))).checksums


@pytest.mark.parametrize("crc32", [True, False])
def test_members_are_those_that_python_reads(crc32: bool) -> None:
    stream = io.BytesIO()
    torch.serialization.set_crc32_options(crc32)
    try:
        torch.save({"a": torch.arange(1000.0)}, stream)
    finally:
        torch.serialization.set_crc32_options(True)
    archive = read_archive(ModelFile(Path("CNN.pt"), stream.getvalue()))
    assert archive.checksums == crc32
    with zipfile.ZipFile(stream) as theirs:
        if crc32:
            assert archive.members == {
                name.partition("/")[2]: theirs.read(name) for name in theirs.namelist()
            }
    assert len(archive.members["data/0"]) == 4000


FOLLOW = {"flags": 8, "crc": 0, "packed": 0, "size": 0}


@pytest.mark.parametrize("form", ["<LLL", "<LQQ"])
@pytest.mark.parametrize("mark", [b"", b"PK\x07\x08"])
def test_sizes_may_follow_a_member(form: str, mark: bytes) -> None:
    record = mark + struct.pack(form, zlib.crc32(b"pickle"), 6, 6)
    follows = Member(b"a/data.pkl", b"pickle", header=FOLLOW, entry={"flags": 8}, behind=record)
    assert read(zipped([follows, ORDER]))["data.pkl"] == b"pickle"
    wrong = record[:-1] + b"\1"
    follows = Member(b"a/data.pkl", b"pickle", header=FOLLOW, entry={"flags": 8}, behind=wrong)
    assert "data.pkl is not alone in its place" in refusal(zipped([follows, ORDER]))


LOCATOR = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
# An extra field that replaces the name a/version, for some readers.
UNICODE_PATH = struct.pack("<HHBL", 0x7075, 16, 1, zlib.crc32(b"a/version")) + b"a/byteorder"

TWOFOLD = {
    "a locator in a comment": [*GOOD, Member(b"a/version", comment=LOCATOR)],
    "another name in an extra field": [*GOOD, Member(b"a/version", extra=UNICODE_PATH)],
    "another case": [*GOOD[:1], Member(b"a/ByteOrder", b"big")],
    "two cases": [*GOOD, Member(b"a/DATA.pkl")],
    "one name in two encodings": [*GOOD, Member(b"a/data/\xe9"), Member("a/data/é".encode())],
    "no folder": [PICKLE, Member(b"byteorder", b"big")],
    "a folder called data.pkl": [Member(b"data.pkl/data.pkl"), Member(b"data.pkl")],
    "two folders": [PICKLE, Member(b"b/byteorder", b"big")],
    "a name that a NUL ends": [*GOOD, Member(b"a/byteorder\0x", b"big")],
    "another size in the header": [Member(b"a/data.pkl", b"pickle", header={"size": 5})],
    "another sum in the header": [Member(b"a/data.pkl", b"pickle", header={"crc": 5})],
    "encrypted in the header": [Member(b"a/data.pkl", b"pickle", header={"flags": 1})],
    "compressed in the header": [Member(b"a/data.pkl", b"pickle", header={"method": 8})],
    "another packed size": [Member(b"a/data.pkl", b"pickle", entry={"packed": 5})],
    "a member in a gap": [Member(b"a/data.pkl", b"pickle", behind=b"PK\x03\x04"), ORDER],
    "one in another": [PICKLE, Member(b"a/byteorder", b"little", entry={"offset": 0})],
}


@pytest.mark.parametrize("name", TWOFOLD)
def test_archive_that_readers_take_for_different_ones_is_refused(name: str) -> None:
    assert re.search("CNN.pt (is|declares) ", refusal(zipped(TWOFOLD[name])))


@pytest.mark.parametrize("name", TWOFOLD)
def test_python_reads_most_of_them(name: str) -> None:
    """Who reads them carelessly does not notice."""
    with zipfile.ZipFile(io.BytesIO(zipped(TWOFOLD[name]))) as careless:
        assert careless.namelist()


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"count": 2, "here": 2}, "does not hold what it counts"),
        ({"here": 2}, "does not end the file"),
        ({"disk": 1}, "does not end the file"),
        ({"first": 1}, "does not end the file"),
        ({"start": 0}, "is not whole"),
        ({"size": 0}, "is not whole"),
        ({"size": 1 << 31}, "is an archive of 3 members, in 2147483648 bytes"),
        ({"count": 10_001, "here": 10_001}, "is an archive of 10001 members"),
        ({"count": 0, "here": 0}, "is an empty archive"),
    ],
)
def test_end_that_says_something_else_is_refused(end: dict[str, int], said: str) -> None:
    assert said in refusal(zipped(GOOD, **end))


def test_bytes_that_belong_to_nothing_are_refused() -> None:
    assert "data/0 is not alone" in refusal(zipped(GOOD, between=b"hidden"))
    assert "does not start the file" in refusal(
        zipped([Member(b"a/data.pkl", entry={"offset": 1}), ORDER])
    )


@pytest.mark.parametrize("length", range(1, 200))
def test_archive_cut_anywhere_is_refused(length: int) -> None:
    assert "CNN.pt is damaged" in refusal(zipped(GOOD)[:-length])


def with_extra(data: bytes, extra: bytes) -> bytes:
    """With an extra field in the header of the first member, as torch puts its padding there."""
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream) as file:
        first = file.infolist()[0]
    assert first.header_offset == 0
    length = len(first.filename.encode())
    header = bytearray(data[: 30 + length])
    header[28:30] = struct.pack("<H", len(extra))
    moved = bytearray(bytes(header) + extra + data[30 + length :])
    (start,) = struct.unpack_from("<L", moved, len(moved) - 6)
    moved[-6:-2] = struct.pack("<L", start + len(extra))
    return bytes(moved)


@pytest.mark.parametrize(
    ("extra", "fine"),
    [
        (b"FB" + struct.pack("<H", 5) + b"ZZZZZ", True),
        (b"FB" + struct.pack("<H", 0), True),
        (UNICODE_PATH, False),
        (b"FB" + struct.pack("<H", 0) + UNICODE_PATH, False),
    ],
)
def test_extra_field_is_torchs_padding_and_nothing_else(extra: bytes, fine: bool) -> None:
    data = with_extra(zipped([PICKLE]), extra)
    if fine:
        assert read(data) == {"data.pkl": b"pickle"}
    else:
        assert "holds more than its name" in refusal(data)


def test_folder_may_be_called_as_the_file_was() -> None:
    for name in ("模型/data.pkl".encode(), b"\xff/data.pkl", b"My CNN/data.pkl"):
        assert read(zipped([Member(name, b"pickle")])) == {"data.pkl": b"pickle"}
    for name in (b"a\0/data.pkl", b"a\n/data.pkl"):
        assert "ambiguous names" in refusal(zipped([Member(name, b"pickle")]))


def test_size_is_said_once() -> None:
    sizes = {"packed": 3, "size": 6}
    member = Member(b"a/data.pkl", b"pickle", header=sizes, entry=sizes)
    assert "in a file of" in refusal(zipped([member]))
