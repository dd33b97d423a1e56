"""Model files: their bytes, and the format that they are in.

Three formats hold weights:

- PyTorch's archive (``torch.save`` since 1.6): an uncompressed ZIP with the pickle
  ``NAME/data.pkl`` and one member ``NAME/data/KEY`` for each storage;
- PyTorch's old format: five pickles (magic number, version, system, content, storage keys), then
  for each storage its number of elements (int64, little-endian) and its bytes;
- safetensors: the header's length (uint64, little-endian), a JSON header, the bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from batchdigit.errors import BatchdigitError, CheckpointError, remedy_for
from batchdigit.system.json_objects import load_json
from batchdigit.system.regular import NotRegularError, read_regular

MAX_HEADER_BYTES = 4 << 20  # of safetensors; the CNN's has 2 KB
MAX_BYTES = 256 << 20  # the CNN takes 9 MB; with an optimizer's state and in float64, 56 MB

ARCHIVE = "PyTorch archive"
OLD_FORMAT = "PyTorch's old format (before 1.6)"
SAFETENSORS = "safetensors"
ONNX = "ONNX"

SAVE_STATE = "torch.save(model.state_dict(), ...)"
SAVE_ANEW = f"save it again by {SAVE_STATE}"
CONVERT = "write it by `batchdigit model convert CNN.pt CNN.onnx`"
SAVE_AGAIN = f"copy it again, or save it again by {SAVE_STATE}"

# ModelProto of onnx.proto3: a version (field 1), then any of its other fields.
_ONNX_START = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42\x72]")
_ONNX_FIELDS = b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca\xd2"  # first bytes of any
# The magic number, in protocols 2 to 5, of which the last two may have a frame, or in 0 and 1.
_OLD_START = re.compile(
    rb"(\x80[\x02-\x05](\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
    rb"|L119547037146038801333356L\n)\.",
    re.DOTALL,
)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The bytes of a model file."""

    path: Path
    data: bytes

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def format(self) -> str:
        """``ARCHIVE``, ``OLD_FORMAT``, ``SAFETENSORS``, ``ONNX``, or what else it is, in words."""
        if self.data[:4] == b"PK\x03\x04":
            return ARCHIVE
        if _OLD_START.match(self.data):
            return OLD_FORMAT
        if safetensors_header(self.data) is not None:
            return SAFETENSORS
        if _ONNX_START.match(self.data) or self._may_be_onnx:
            return ONNX
        return self.describe_foreign()[0]

    @property
    def _may_be_onnx(self) -> bool:
        """Whether it is called .onnx and begins with a field of ModelProto, as few writers do."""
        named = self.path.suffix.lower() == ".onnx"
        return named and self.data[:1] in map(bytes, zip(_ONNX_FIELDS, strict=True))

    def refusal(self, problem: str, remedy: str = SAVE_AGAIN) -> CheckpointError:
        """The error for this file."""
        return CheckpointError(f"the model {self.path} {problem}", remedy)

    @contextlib.contextmanager
    def refused_if_it_fails(self) -> Iterator[None]:
        """Raise CheckpointError for whatever else is raised while this file is looked through.

        The checks mean to raise it themselves. This is for what they have not thought of.
        """
        try:
            yield
        except (BatchdigitError, MemoryError):
            raise
        except Exception as error:
            raise self.refusal(f"cannot be read ({type(error).__name__}: {error})") from error

    def describe_foreign(self) -> tuple[str, str]:
        """What a file of an unknown format is, and what to do about it."""
        if not self.data:
            return "an empty file", CONVERT if self.path.suffix == ".onnx" else SAVE_AGAIN
        if _ONNX_START.match(self.data):
            return "an ONNX file", f"give the file that {SAVE_STATE} wrote"
        if self.path.suffix.lower() == ".onnx":
            return "no ONNX file", CONVERT
        # Few files need it.
        from batchdigit.system.foreign import HDF5, PICKLE, SAFETENSORS_FILE, TAR, foreign

        if kind := foreign(self.data):
            if kind is SAFETENSORS_FILE:  # or its header would have been read
                return "a damaged safetensors file", SAVE_AGAIN
            what = "a pickle that torch.save did not write" if kind is PICKLE else kind.what
            remedies = {
                HDF5: f"train in PyTorch and use {SAVE_STATE}",
                PICKLE: f"save the weights by {SAVE_STATE}",
                TAR: f"save the weights again by {SAVE_STATE}",
            }
            return what, remedies.get(kind, kind.remedy) or f"give the file that {SAVE_STATE} wrote"
        return "not a PyTorch or safetensors file", f"give the file that {SAVE_STATE} wrote"


def read_model_file(path: Path) -> ModelFile:
    """The bytes of ``path``.

    Raises CheckpointError for what is not a regular file, cannot be read, or has more than
    MAX_BYTES.
    """
    remedy = f"name the file that {SAVE_STATE} wrote"
    try:
        data = read_regular(path, MAX_BYTES)
    except NotRegularError as error:
        raise CheckpointError(f"the model {path} is {error.strerror}", remedy) from error
    except (OSError, ValueError) as error:  # the latter for a null byte in its name
        problem = f"cannot read the model {path}: {getattr(error, 'strerror', None) or error}"
        if (other := remedy_for(error, remedy)) != remedy:  # which is no fault of the file
            raise BatchdigitError(problem, other) from error
        raise CheckpointError(problem, remedy) from error
    if data is None:
        raise CheckpointError(
            f"the model {path} is larger than {MAX_BYTES >> 20} MiB, which no network here is",
            f"save the weights alone, by {SAVE_STATE}",
        )
    return ModelFile(path, data)


def safetensors_header(data: bytes) -> dict[str, Any] | None:
    """The JSON header of a safetensors file; None for other bytes."""
    if len(data) < 10 or data[8:9] != b"{":
        return None
    (length,) = struct.unpack_from("<Q", data)
    if length > min(len(data) - 8, MAX_HEADER_BYTES):
        return None
    try:
        header = load_json(data[8 : 8 + length], doubled="a name that stands twice")
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None
