"""Model files: reading the weights of a ``CNN.pt`` without running any of its code."""

from __future__ import annotations

import hashlib
import io
import pickle
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from batchdigit.errors import CheckpointError
from batchdigit.model import CNN

MAX_BYTES = 1 << 30  # the CNN takes 9 MB


@dataclass(frozen=True)
class Checkpoint:
    """A model in ``eval()`` mode on the CPU, and where it came from."""

    model: CNN
    path: Path
    sha256: str

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return int(self.model.fc[-1].out_features)  # type: ignore[arg-type]


def load_checkpoint(path: Path) -> Checkpoint:
    """The model whose state dict ``torch.save(model.state_dict(), path)`` wrote.

    The file is read once, hashed, and unpickled with ``weights_only=True`` whatever the
    environment says: nothing in it is executed. Tensors saved on a GPU come to the CPU.

    Raises CheckpointError when the file is missing, damaged, not a state dict, not of this
    network, or holds values that are not finite.
    """
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
            data = path.read_bytes()
        else:
            raise CheckpointError(
                f"the model {path} is not a regular file of at most {MAX_BYTES} bytes",
                "give --model a file written by torch.save(model.state_dict(), ...)",
            )
    except OSError as error:
        raise CheckpointError(
            f"cannot read the model {path}: {error.strerror or error}",
            "give --model a file written by torch.save(model.state_dict(), ...)",
        ) from error
    state = _unpickle(data, path)
    model = CNN()
    _check_fit(state, model.state_dict(), path)
    model.load_state_dict(state)
    return Checkpoint(model.eval(), path, hashlib.sha256(data).hexdigest())


def _unpickle(data: bytes, path: Path) -> Mapping[str, torch.Tensor]:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights (a whole pickled model, perhaps), "
            "and loading it would run its code",
            "where it was made, save torch.save(model.state_dict(), ...) instead",
        ) from error
    except Exception as error:
        # torch reports damaged files as RuntimeError, EOFError, KeyError, OSError, ...
        raise CheckpointError(
            f"{path} is not a readable PyTorch file",
            "copy it again, or save it again by torch.save(model.state_dict(), ...)",
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise CheckpointError(
            f"{path} is not a state dict", "save it by torch.save(model.state_dict(), ...)"
        )
    return state


def _check_fit(
    state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], path: Path
) -> None:
    if problem := _misfit(state, expected):
        raise CheckpointError(
            f"{path} does not fit the CNN: {problem}",
            "give --model the weights of the network that ARCHITECTURE.md describes",
        )
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path} holds values that are not finite in {key}", "train the model again"
            )
        if key.endswith("running_var") and bool((value < 0).any()):
            raise CheckpointError(
                f"{path} holds a negative variance in {key}", "train the model again"
            )


def _is_plain(tensor: torch.Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_quantized
    return dense and tensor.device.type == "cpu" and not tensor.is_complex()


def _misfit(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    if missing or extra:
        parts = [
            f"{name} {', '.join(keys[:4])}{' and more' if len(keys) > 4 else ''}"
            for name, keys in (("missing", missing), ("unexpected", extra))
            if keys
        ]
        return "; ".join(parts)
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            found, wanted = tuple(state[key].shape), tuple(tensor.shape)
            return f"{key} has shape {found} where {wanted} belongs"
        if not _is_plain(state[key]) or (
            state[key].is_floating_point() != tensor.is_floating_point()
        ):
            kind = f"{state[key].dtype}, {state[key].layout}, {state[key].device}"
            return f"{key} is of a kind that holds no weights ({kind})"
    return ""
