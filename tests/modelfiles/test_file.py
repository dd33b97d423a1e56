"""Which format a model file has, and what people give instead of one."""

import os
import pickle
import struct
from pathlib import Path

import pytest

from batchdigit import CheckpointError, UsageError
from batchdigit.modelfiles import file
from batchdigit.modelfiles.file import ModelFile, read_model_file
from batchdigit.modelfiles.scan import scan


def refusal(data: bytes, name: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        scan(ModelFile(Path(name), data))
    message = str(caught.value)
    assert name in message
    assert caught.value.remedy
    return message


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"", "CNN.pt", "an empty file"),
        (b"\x01\xffhello", "CNN.pt", "not a PyTorch or safetensors file"),
        (b"hello", "CNN.pt", "plain text"),
        (b"\x80\x02", "CNN.pt", "a pickle that torch.save did not write"),
        (pickle.dumps({"a": 1}), "CNN.pkl", "a pickle that torch.save did not write"),
        (b"version https://git-lfs.github.com/spec/v1\noid ...", "CNN.pt", "Git LFS pointer"),
        (b"\n <!DOCTYPE html><html>", "CNN.pt", "a web page"),
        (b"\x1f\x8b\x08\0", "CNN.pt.gz", "compressed by gzip"),
        (b"\x89HDF\r\n", "model.h5", "HDF5"),
        (b"\x08\x0a\x12\x07pytorch", "CNN.onnx", "an ONNX file"),
        (b"\0" * 257 + b"ustar", "CNN.pt", "a tar archive"),
        (struct.pack("<Q", 1 << 60) + b"{}", "CNN.safetensors", "not a PyTorch or safetensors"),
        (header("[1]"), "CNN.safetensors", "not a PyTorch or safetensors"),
        (header("{" * 100_000), "CNN.safetensors", "not a PyTorch or safetensors"),
        (b"PK\x03\x04truncated", "CNN.pt", "does not end the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_people_give_by_mistake_is_named(data: bytes, name: str, said: str) -> None:
    assert said in refusal(data, name)


def test_file_larger_than_any_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "CNN.pt"
    with path.open("wb") as stream:
        stream.truncate(file.MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match="larger than 256 MiB"):
        read_model_file(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        read_model_file(tmp_path / "CNN.pt")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "CNN.pt"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(CheckpointError, match="folder" if kind == "folder" else "regular file"):
        read_model_file(path)


@pytest.mark.parametrize("error", [RecursionError("too deep"), KeyError("x"), AssertionError()])
def test_whatever_a_file_makes_fail_is_a_refusal_that_names_its_type(error: Exception) -> None:
    model = ModelFile(Path("CNN.pt"), b"")
    with pytest.raises(CheckpointError) as caught, model.refused_if_it_fails():
        raise error
    assert f"CNN.pt cannot be read ({type(error).__name__}: " in str(caught.value)
    assert caught.value.remedy
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [UsageError("a", "b"), MemoryError(), KeyboardInterrupt()])
def test_what_says_enough_by_itself_stays_as_it_is(error: BaseException) -> None:
    model = ModelFile(Path("CNN.pt"), b"")
    with pytest.raises(type(error)) as caught, model.refused_if_it_fails():
        raise error
    assert caught.value is error
