"""Model files for the tests: as people save them, and as nobody should."""

import inspect
import io
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from batchdigit import CheckpointError
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.modelfiles.file import read_model_file
from batchdigit.models.wanted import THE_CNN, Wanted
from batchdigit.models.weights import read_weights
from tests.support import oracle

# The tutorial's way of saving, in a program of its own whose CNN is __main__.CNN.
SAVE = """
weights = torch.load(sys.argv[1], weights_only=True)
model = CNN()
model.load_state_dict(weights)
model.eval()
parallel = nn.DataParallel(model)

def save_all(where):
    for age, options in ("new", {}), ("old", {"_use_new_zipfile_serialization": False}):
        torch.save(model.state_dict(), f"{where}-{age}-state.pt", **options)
        torch.save(model, f"{where}-{age}-whole.pt", **options)
        torch.save(parallel.state_dict(), f"{where}-{age}-parallel-state.pt", **options)
        torch.save(parallel, f"{where}-{age}-parallel-whole.pt", **options)

save_all("cpu")
# A file from a GPU differs only in what torch.save writes about a storage's place.
torch.serialization.location_tag = lambda storage: "cuda:3"
save_all("cuda")
"""
HEADER = "import sys\nimport torch\nfrom torch import nn\n\n"


def save_the_tutorials_way(folder: Path, weights: Path) -> None:
    """Write sixteen files into ``folder`` by a program that defines CNN in ``__main__``."""
    script = folder / "tutorial.py"
    script.write_text(HEADER + inspect.getsource(oracle.CNN) + SAVE)
    run(script, weights, folder=folder)


def run(script: Path, *arguments: Path | str, folder: Path) -> str:
    """The output of a Python program that knows nothing of this project."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, *map(str, arguments)],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def saved(path: Path, content: object, **options: Any) -> Path:
    """Save ``content`` to ``path`` by torch.save, and return ``path``."""
    torch.save(content, path, **options)
    return path


def wanted_by(module: nn.Module) -> Wanted:
    """The state dict that a network of the user's own takes."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    return Wanted(f"the network {type(module).__name__}", shapes)


def refusal(
    path: Path,
    class_name: str | None = None,
    *,
    key: str | None = None,
    wanted: Wanted = THE_CNN,
) -> str:
    """The message with which a model file is refused."""
    with pytest.raises(CheckpointError) as caught:
        read_weights(read_model_file(path), class_name, key, wanted)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "weights_only" not in message
    assert caught.value.remedy
    return message


def same_weights(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    """Whether the state dict of ``model`` is ``state``, number by number."""
    loaded = model.state_dict()
    return loaded.keys() == state.keys() and all(
        torch.equal(loaded[name], tensor) for name, tensor in state.items()
    )


def archive(content: bytes, records: dict[str, bytes] | None = None) -> bytes:
    """PyTorch's archive around a pickle, with the bytes of its storages."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/byteorder", b"little")
        for key, data in (records or {}).items():
            file.writestr(f"archive/data/{key}", data)
        file.writestr("archive/version", b"3\n")
    return stream.getvalue()


def pushed(*values: object) -> bytes:
    """The instructions of a pickle that push plain values."""
    return b"".join(pickle.dumps(value, 2)[2:-1] for value in values)


def reference(elements: int, key: str | bytes = "0", kind: bytes = b"FloatStorage") -> bytes:
    """The instructions for a storage as torch writes it; ``key`` in bytes is instructions, too."""
    name = pushed(key) if isinstance(key, str) else key
    start = b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\n"
    return start + name + pushed("cpu", elements) + b"tQ"


def rebuild(storage: bytes, offset: int, shape: object, strides: object) -> bytes:
    """The pickle of one tensor as torch writes it."""
    sizes = pushed(offset, shape, strides)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + sizes + b"\x89}tR."


def old_format(
    content: bytes,
    records: dict[str, tuple[int, bytes]] | None = None,
    **replaced: bytes,
) -> bytes:
    """PyTorch's old format around a pickle; a storage is its number of elements and its bytes."""
    records = records or {}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = {
        "magic": pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        "version": pickle.dumps(1001, 2),
        "system": pickle.dumps(system, 2),
        "content": content,
        "keys": pickle.dumps(list(records), 2),
    }
    storages = [struct.pack("<q", count) + data for count, data in records.values()]
    return b"".join([*(parts | replaced).values(), *storages])


def trained_on(mean: float, std: float, *, turned: int = 0) -> dict[str, torch.Tensor]:
    """The packaged weights as if trained on pixels with this mean and deviation.

    What a network makes of x, this one makes of (x - mean) / std: its first convolution, which has
    no padding, gives Wx + b for either. ``turned`` lets each class have the output of another.
    """
    state = torch.load(PACKAGED_WEIGHTS, weights_only=True)
    weight, bias = state["layer1.0.weight"].double(), state["layer1.0.bias"].double()
    state["layer1.0.weight"] = (weight * std).float()
    state["layer1.0.bias"] = (bias + mean * weight.sum(dim=(1, 2, 3))).float()
    for name in ("fc.4.weight", "fc.4.bias"):
        state[name] = state[name].roll(turned, 0)
    return state
