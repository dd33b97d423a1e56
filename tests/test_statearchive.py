"""What was verified is what is loaded, however torch would read the file."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from batchdigit import CNN, load_checkpoint
from tests.modelfiles import archive, pushed, rebuild, reference

NAME = "fc.4.bias"
GOOD = CNN().state_dict()
OTHER = torch.full_like(GOOD[NAME], 7.0)


def tensor(tensor: torch.Tensor, key: str | bytes) -> bytes:
    """The instructions that rebuild a tensor out of the storage ``key``."""
    kind = {torch.float32: b"FloatStorage", torch.int64: b"LongStorage"}[tensor.dtype]
    storage = reference(tensor.numel(), key, kind)
    return rebuild(storage, 0, tuple(tensor.shape), tensor.stride())[2:-1]


def model_file(key: str | bytes, held: dict[str, torch.Tensor], after: bytes = b"") -> bytes:
    """The CNN's archive; ``key`` is ``NAME``'s storage, ``after`` are instructions behind it."""
    content = b"\x80\x02}("
    records = {}
    for place, (name, value) in enumerate(GOOD.items()):
        if name == NAME:
            content += pushed(name) + tensor(value, key) + after
            continue
        content += pushed(name) + tensor(value, str(place))
        records[str(place)] = value.numpy().tobytes()
    records |= {name: value.numpy().tobytes() for name, value in held.items()}
    return archive(content + b"u.", records)


def loaded_by_torch(data: bytes) -> torch.Tensor:
    weights: dict[str, torch.Tensor] = torch.load(io.BytesIO(data), weights_only=True)
    return weights[NAME]


def loaded(tmp_path: Path, data: bytes) -> torch.Tensor:
    (tmp_path / "CNN.pt").write_bytes(data)
    return load_checkpoint(tmp_path / "CNN.pt").state[NAME]


def test_handmade_file_is_as_torch_makes_it(tmp_path: Path) -> None:
    data = model_file("x", {"x": GOOD[NAME]})
    assert torch.equal(loaded_by_torch(data), GOOD[NAME])
    assert torch.equal(loaded(tmp_path, data), GOOD[NAME])


def test_storage_whose_name_is_a_folder_s_is_read(tmp_path: Path) -> None:
    """torch takes a member whose name ends in a slash for an empty folder."""
    data = model_file("x/", {"x/": GOOD[NAME]})
    assert torch.equal(loaded(tmp_path, data), GOOD[NAME])


def test_member_that_is_flagged_as_a_folder_is_read(tmp_path: Path) -> None:
    """From such a member torch reads nothing, and gives whatever was in memory for its numbers."""
    ones = torch.ones(10_000_000)  # so many that the allocator maps pages of zeros for them
    data = with_flagged_member({"ones": ones})
    assert not torch.equal(torch.load(io.BytesIO(data), weights_only=True)["ones"], ones)
    (tmp_path / "CNN.pt").write_bytes(with_flagged_member(GOOD))
    state = load_checkpoint(tmp_path / "CNN.pt").state
    assert all(torch.equal(state[name], value) for name, value in GOOD.items())


def with_flagged_member(content: object) -> bytes:
    """A saved file whose first storage has the MS-DOS attribute of a folder (Appnote 4.4.15)."""
    stream = io.BytesIO()
    torch.save(content, stream)
    data = bytearray(stream.getvalue())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    data[entry + 38] |= 0x10
    return bytes(data)


def test_name_of_a_storage_is_read_in_one_encoding(tmp_path: Path) -> None:
    """torch decodes this instruction's text as UTF-8, pickletools as Latin-1."""
    key = "é".encode()
    short = b"U" + struct.pack("B", len(key)) + key
    data = model_file(short, {"Ã©": GOOD[NAME], "é": OTHER})
    assert torch.equal(loaded_by_torch(data), OTHER)
    assert torch.equal(loaded(tmp_path, data), GOOD[NAME])


def test_state_that_is_set_on_a_tensor_changes_nothing(tmp_path: Path) -> None:
    """torch calls ``set_`` with it, which puts other numbers into the tensor."""
    other = tensor(OTHER, "y")
    state = b"(" + other + pushed(0, (10,), (1,)) + b"tb"
    data = model_file("x", {"x": GOOD[NAME], "y": OTHER}, after=state)
    assert torch.equal(loaded_by_torch(data), OTHER)
    assert torch.equal(loaded(tmp_path, data), GOOD[NAME])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_default_dtype_of_the_caller_changes_nothing(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "CNN.pt"
    torch.save(GOOD, path)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        weights: dict[str, Any] = load_checkpoint(path).model.state_dict()
    finally:
        torch.set_default_dtype(before)
    assert {name: value.dtype for name, value in weights.items()} == {
        name: value.dtype for name, value in GOOD.items()
    }
