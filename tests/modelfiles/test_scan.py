"""What a model file declares is checked against what it holds."""

import io
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from batchdigit import CNN, CheckpointError
from batchdigit.modelfiles import pickled
from batchdigit.modelfiles.archive import ProgramError
from batchdigit.modelfiles.file import ModelFile, read_model_file
from batchdigit.modelfiles.scan import Contents, scan
from batchdigit.modelfiles.tensors import StoredTensor
from tests.support import oracle
from tests.support.modelfiles import archive, old_format, rebuild, reference

GOOD = CNN().state_dict()


def saved(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def saved_old(content: object) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


def scanned(data: bytes) -> Contents:
    return scan(ModelFile(Path("CNN.pt"), data))


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        scanned(data)
    message = str(caught.value)
    assert "CNN.pt" in message
    assert "\n" not in message
    assert caught.value.remedy
    return message


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]
DTYPES += [torch.int16, torch.int8, torch.uint8, torch.bool]
SAVERS = {"archive": saved, "old format": saved_old, "safetensors": save}


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)], ids=str)
def test_tensors_are_found_with_type_and_shape(saver: str, shape: tuple[int, ...]) -> None:
    tensors = {str(dtype): torch.zeros(shape, dtype=dtype) for dtype in DTYPES}
    root = scanned(SAVERS[saver](tensors)).root
    assert root == {
        str(dtype): StoredTensor(str(dtype).removeprefix("torch."), shape) for dtype in DTYPES
    }


@pytest.mark.parametrize("saver", [saved, saved_old])
def test_views_and_shared_storages_are_no_excess(saver: Any) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {"whole": whole, "row": whole[1], "column": whole[:, 2], "turned": whole.T}
    contents = scanned(saver(tensors))
    assert contents.excess == ""
    assert [tensor.shape for tensor in contents.root.values()] == [(4, 6), (6,), (4,), (6, 4)]


FOUR = {"0": b"\0" * 16}


def test_handmade_tensor_is_as_torch_makes_it() -> None:
    """So the refusals below are for the reasons that they name."""
    data = archive(rebuild(reference(4), 0, (2, 2), (2, 1)), FOUR)
    assert scanned(data).excess == ""
    assert torch.load(io.BytesIO(data), weights_only=True).shape == (2, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (rebuild(reference(4), 0, (1,) * 9, (1,) * 9), "of 9 dimensions"),
        (rebuild(reference(4), 0, (10**12,), (0,)), "1000000000000 elements in a storage of 4"),
        (rebuild(reference(4), 0, (5,), (1,)), "5 elements in a storage of 4"),
        (rebuild(reference(4), 1, (4,), (1,)), "4 elements in a storage of 4"),
        (rebuild(reference(4), 0, (2,), (4,)), "2 elements in a storage of 4"),
        (rebuild(reference(4), -1, (2,), (1,)), "impossible size"),
        (rebuild(reference(4), 0, (-2,), (1,)), "impossible size"),
        (rebuild(reference(4), 0, (2,), (-1,)), "impossible size"),
        (rebuild(reference(4), 0, (1 << 80,), (1,)), "impossible size"),
        (rebuild(reference(4), 0, (True,), (1,)), "impossible size"),
        (rebuild(reference(4), 0, ("2",), (1,)), "impossible size"),
        (rebuild(reference(4), 0, (2, 2), (1,)), "an impossible tensor"),
        (rebuild(reference(4), 0, 4, 1), "without a shape"),
        (
            rebuild(reference(10**12), 0, (2,), (1,)),
            "4000000000000 bytes in storage 0 and holds 16",
        ),
        (rebuild(reference(3), 0, (2,), (1,)), "12 bytes in storage 0 and holds 16"),
        (rebuild(reference(4, "9"), 0, (2,), (1,)), "16 bytes in storage 9 and holds 0"),
        (rebuild(reference(-4), 0, (2,), (1,)), "impossible size"),
        (rebuild(reference(4, kind=b"UntypedStorage"), 0, (2,), (1,)), "unknown type"),
        (rebuild(b"K\x05Q", 0, (2,), (1,)), "an impossible tensor"),
        (rebuild(b"K\x05", 0, (2,), (1,)), "without a storage"),
        (
            b"\x80\x02ctorch._utils\n_rebuild_parameter\n(K\x05\x89}tR.",
            "not a tensor",
        ),
        (b"\x80\x02" + reference(4) + reference(2)[:-1] + b"Q\x86.", "storage 0 twice"),
        (b"\x80\x02" + rebuild(reference(4), 0, (9,), (1,))[2:-1] + b"}.", "9 elements"),
    ],
)
def test_more_declared_than_held_is_found(content: bytes, said: str) -> None:
    assert said in scanned(archive(content, FOUR)).excess


def test_small_file_of_a_trillion_elements_that_torch_accepts_is_found() -> None:
    data = saved({"fc.4.bias": torch.zeros(1).expand(10**12)})
    assert len(data) < 2000
    assert torch.load(io.BytesIO(data), weights_only=True)["fc.4.bias"].shape == (10**12,)
    assert "1000000000000 elements in a storage of 1" in scanned(data).excess


def rezipped(data: bytes, change: Any = None, **options: Any) -> bytes:
    """A new archive of the members of ``data``, each changed by ``change(name, data)``."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(stream, "w", **options) as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(name, content) if change else content)
    return stream.getvalue()


def test_compressed_archive_that_torch_accepts_is_refused() -> None:
    data = rezipped(saved({"a": torch.zeros(10_000_000)}), compression=zipfile.ZIP_DEFLATED)
    assert len(data) < 100_000
    assert torch.load(io.BytesIO(data), weights_only=True)["a"].shape == (10_000_000,)
    assert "compressed archive" in refusal(data)


def test_members_that_add_up_to_more_than_the_file_are_refused() -> None:
    data = bytearray(saved(GOOD))
    place = data.rindex(b"PK\x01\x02")  # the directory's last entry; its sizes are at 20 and 24
    struct.pack_into("<II", data, place + 20, 1 << 30, 1 << 30)
    assert "declares" in refusal(bytes(data))


def test_archive_of_a_storage_whose_checksum_is_wrong_is_refused() -> None:
    data = bytearray(saved(GOOD))
    data[len(data) // 2] ^= 1
    assert "is damaged" in refusal(bytes(data))
    # torch itself accepts the flipped bit as part of a weight
    assert torch.load(io.BytesIO(bytes(data)), weights_only=True).keys() == GOOD.keys()


def doubled(data: bytes) -> bytes:
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
    return stream.getvalue()


def with_other_case(data: bytes) -> bytes:
    """With a second pickle that torch's reader could mistake for the first."""
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as file:
        file.writestr("archive/DATA.pkl", pickle.dumps({}, 2))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (doubled, "ambiguous names"),
        (with_other_case, "ambiguous names"),
        (lambda data: data + b"PK\x05\x06" + b"\0" * 18, "an empty archive"),
        (lambda data: data + saved({}), "its directory is in two places"),
        (lambda data: b"PK\x03\x04" + data, "its directory is in two places"),
        (lambda data: b"PK\x03\x04" + rezipped(data, lambda name, old: old), "is not whole"),
        (lambda data: data[:-2] + b"\x05\x00hello", "does not end the file"),
        (lambda data: data[:-100], "does not end the file"),
        (lambda data: data[:100_000], "does not end the file"),
        (lambda data: data.replace(b"/version", b"/versio\0"), "ambiguous names"),
        (lambda data: rezipped(data, lambda name, old: old[:9]), "a broken pickle"),
    ],
    ids=[
        "two members of a name",
        "two cases of a name",
        "two ends",
        "two archives",
        "bytes before it",
        "bytes before one without ZIP64",
        "comment",
        "cut",
        "cut short",
        "a name with a NUL",
        "members cut",
    ],
)
def test_archive_that_readers_could_take_for_different_ones_is_refused(
    change: Any, said: str
) -> None:
    assert said in refusal(change(saved(GOOD)))


def test_archive_without_a_pickle_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("weights.npy", b"1")
    assert "ZIP archive that torch.save did not write" in refusal(stream.getvalue())


OLD = saved_old({"a": torch.arange(4.0)})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (OLD + b"\0", "bytes behind its end"),
        (OLD[:-1], "which are not there"),
        (OLD[:-16], "which are not there"),
        (OLD[:-24] + struct.pack("<q", 5) + OLD[-16:], "which are not there"),
        (OLD[:-24] + struct.pack("<q", 3) + OLD[-16:], "which are not there"),
        (old_format(rebuild(reference(4)[:-2] + b"NtQ", 0, (2,), (1,))), "list the storages"),
        (old_format(pickle.dumps({}, 2), {"0": (4, b"\0" * 16)}), "list the storages"),
        (old_format(pickle.dumps({}, 2), keys=pickle.dumps({}, 2)), "not list its storages"),
        (old_format(pickle.dumps({}, 2), keys=pickle.dumps([[1]], 2)), "not list its storages"),
    ],
)
def test_more_declared_than_held_is_found_in_the_old_format(data: bytes, said: str) -> None:
    assert said in scanned(data).excess


def test_handmade_old_file_is_as_torch_makes_it() -> None:
    content = rebuild(reference(4)[:-2] + b"NtQ", 0, (2, 2), (2, 1))
    data = old_format(content, {"0": (4, b"\0" * 16)})
    assert scanned(data).excess == ""
    assert torch.load(io.BytesIO(data), weights_only=True).shape == (2, 2)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (OLD[:60], "a broken pickle"),
        (OLD[:20], "a broken pickle"),
        (old_format(pickle.dumps({}, 2), system=pickle.dumps(5, 2)), "does not start as"),
        (
            old_format(pickle.dumps({}, 2), system=pickle.dumps({"little_endian": False}, 2)),
            "big-endian",
        ),
    ],
)
def test_damaged_file_of_the_old_format_is_refused(data: bytes, said: str) -> None:
    assert said in refusal(data)


def header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 5}',
        '{"a": {"dtype": "F32", "shape": [1]}}',
        '{"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "more": 1}}',
        '{"a": {"dtype": "F32", "shape": [1, 1, 1, 1, 1, 1, 1, 1, 1], "data_offsets": [0, 4]}}',
        '{"__metadata__": [1], "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_impossible_header_of_safetensors_is_refused(text: str) -> None:
    assert "not of the safetensors format" in refusal(header(text, b"\0\0\0\0"))


def test_pickle_larger_than_any_models_is_refused() -> None:
    data = archive(pickle.dumps({"note": "x" * (pickled.MAX_BYTES + 1)}, 2))
    assert "a pickle of more than 4 MiB" in refusal(data)


def test_archive_of_a_hundred_thousand_members_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        for number in range(100_000):
            file.writestr(f"archive/{number}", b"")
    assert "is an archive of 65535 members" in refusal(stream.getvalue())


def test_long_history_beside_the_weights_does_not_matter() -> None:
    content = {"state_dict": GOOD, "losses": [0.5 + step for step in range(200_000)]}
    assert len(scanned(saved(content)).root["losses"]) == 200_000
    content["losses"] *= 3
    message = refusal(saved(content))
    assert "a pickle of more than 4 MiB" in message
    assert "save the weights alone" in message


@pytest.mark.parametrize("save", ["scripted", "traced", "exported"])
def test_program_is_told_from_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: str
) -> None:
    """What is said of it, and the remedy, are tested in tests/models/test_programs.py."""
    monkeypatch.chdir(tmp_path)
    model, images = oracle.CNN().eval(), torch.rand(2, 1, 28, 28)
    path = Path("program.pt2" if save == "exported" else "program.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        if save == "scripted":
            torch.jit.script(model).save(path)
        elif save == "traced":
            torch.jit.trace(model, images).save(path)
        else:
            torch.export.save(torch.export.export(model, (images,)), path)
    with pytest.raises(ProgramError, match="which is code") as caught:
        scan(read_model_file(path))
    assert caught.value.kind == ("torch.export" if save == "exported" else "TorchScript")
    assert caught.value.weights


def test_pickles_of_the_old_format_are_counted_together() -> None:
    dropped = b"\x80\x02(" + b"N" * 300_000 + b"t0"
    parts = old_format(pickle.dumps({}, 2)).split(b"\x80\x02")[1:]
    assert len(parts) == 5
    long = [parts[0], *(dropped + part for part in parts[1:])]
    assert "more than 1000000 steps" in refusal(b"\x80\x02" + b"".join(long))
