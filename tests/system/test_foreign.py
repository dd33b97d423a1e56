"""Files are told by how they start; what other programs write is written by them here."""

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors

from batchdigit.system.foreign import foreign

PNG = io.BytesIO()
Image.new("L", (28, 28), 9).save(PNG, "PNG")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def in_memory(write: object) -> bytes:
    stream = io.BytesIO()
    write(stream)  # type: ignore[operator]
    return stream.getvalue()


def zipped(stream: io.BytesIO) -> None:
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", PNG.getvalue())


def tarred(stream: io.BytesIO) -> None:
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))


def sounding(stream: io.BytesIO) -> None:
    with wave.open(stream, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 10)


KINDS = {
    "lfs": (LFS, "a Git LFS pointer, not the file itself", "git lfs pull"),
    "page": (b"\n<!DOCTYPE HTML><title>404", "a web page", "download the file itself"),
    "xhtml": (b'<?xml version="1.0"?>\n<html><head/></html>', "a web page", "download"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing", "PNG"),
    "svg in xml": (b'\xef\xbb\xbf<?xml version="1.0"?><svg/>', "an SVG drawing", "PNG"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "an XML document", "see"),
    "json": (json.dumps({"error": "no such file"}).encode(), "a JSON document", "see"),
    "text": (b"Not Found\n", "plain text", "see"),
    "cut text": ("\u00e4".encode() * 512 + b"x", "plain text", "see"),
    "utf-16": ("Not Found".encode("utf-16"), "plain text", "see"),
    "pdf": (in_memory(lambda s: Image.new("L", (9, 9)).save(s, "PDF")), "a PDF", "export"),
    "zip": (in_memory(zipped), "a ZIP archive", "unpack"),
    "tar": (in_memory(tarred), "a tar archive", "unpack"),
    "gzip": (gzip.compress(PNG.getvalue(), mtime=0), "compressed by gzip", "gunzip"),
    "bzip2": (bz2.compress(PNG.getvalue()), "compressed by bzip2", "bunzip2"),
    "xz": (lzma.compress(PNG.getvalue()), "compressed by xz", "unxz"),
    "rar": (b"Rar!\x1a\x07\1\0", "a RAR archive", "unpack"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive", "unpack"),
    "npy": (in_memory(lambda s: np.save(s, np.zeros(3))), "a NumPy array", "PNG"),
    "pickle": (pickle.dumps([1, 2]), "a pickle", ""),
    "safetensors": (save_safetensors({"a": torch.zeros(2)}), "a safetensors file", ""),
    "wave": (in_memory(sounding), "a sound", ""),
    "mp4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video", "frame"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "a video", "frame"),
    "avi": (b"RIFF\0\0\1\0AVI LIST", "a video", "frame"),
    "webm": (b"\x1aE\xdf\xa3\x9fB\x86\x81", "a video", "frame"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw data", "convert"),
    "dicom": (b"\0" * 128 + b"DICM\2\0", "a DICOM file", "export"),
    "base64": (base64.b64encode(PNG.getvalue()), "an image in Base64", "base64 -d"),
    "as text": (
        PNG.getvalue().replace(b"\r\n", b"\n"),
        "an image that was transferred as if it were text",
        "binary",
    ),
    "read as UTF-8": (
        PNG.getvalue().decode("utf-8", "replace").encode(),
        "an image that was transferred as if it were text",
        "binary",
    ),
    "zeros": (bytes(5000), "nothing but zero bytes", "copy it again"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_told_by_how_it_starts(name: str) -> None:
    data, what, remedy = KINDS[name]
    kind = foreign(data)
    assert kind is not None
    assert kind.what == what
    assert remedy in kind.remedy


def test_database_is_told(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table a (b)")
    connection.close()
    kind = foreign((tmp_path / "a.db").read_bytes())
    assert kind is not None
    assert kind.what == "an SQLite database"


@pytest.mark.parametrize("data", [b"", b"\x01\xff\x02", b"\xc3\x28 text", PNG.getvalue()])
def test_of_what_is_not_known_nothing_is_said(data: bytes) -> None:
    assert foreign(data) is None
