"""What stands beside a model about its input: ``model.toml``, metadata, a processor's settings.

A ``model.toml`` says which file holds the weights, how images are given to the network, and what
its classes are called::

    weights = "CNN.pt"
    labels = ["zero", "one"]      # or the name of a file of labels
    fit = "auto"                  # as --preprocess

    [input]
    size = 32                     # or [32, 28]: height and width
    mean = [0.1307]
    std = [0.3081]

Metadata of safetensors and of ONNX says the same as JSON, under the name METADATA, but names no
file. ``preprocessor_config.json`` is what Hugging Face's image processors write; its names are
those of ``transformers.BaseImageProcessorFast``. None of them names code: that is for the user.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from batchdigit.errors import CheckpointError, UsageError, one_line
from batchdigit.labels import check_labels, read_labels
from batchdigit.modelfiles.declaration import GIVEN_AS, PREPROCESSING, Declaration, quoted
from batchdigit.models.spec import WHITE
from batchdigit.system.json_objects import load_json
from batchdigit.system.regular import read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

MODEL_TOML = "model.toml"
PREPROCESSOR = "preprocessor_config.json"
METADATA = "batchdigit.model"
MAX_BYTES = 1 << 20  # of a processor's settings
MAX_TOML_BYTES = 1 << 16
KIB = 1024  # bytes
MAX_DOTS = 20  # in a line: the time and the memory of tomllib grow with the square of a key's parts
_KEYS = ("weights", "input", "labels", "fit")
_SHOULD = "it may hold weights, labels, fit, and in [input] size, channels, mean, std and so on"


@dataclass(frozen=True, kw_only=True)
class Described:
    """What is said of a model, by whatever says it; empty where nothing is said.

    ``weights`` is the file with its weights, ``fit`` which images are fitted, as ``--preprocess``.
    ``by`` names what says so.
    """

    weights: Path | None = None
    declaration: Declaration = Declaration()
    labels: tuple[str, ...] = ()
    fit: str | None = None
    by: tuple[str, ...] = ()

    def over(self, other: Described) -> Described:
        """The same, and where it says nothing, what ``other`` says."""
        return Described(
            weights=self.weights or other.weights,
            declaration=self.declaration.over(other.declaration),
            labels=self.labels or other.labels,
            fit=self.fit or other.fit,
            by=(*self.by, *other.by),
        )


def describe(model: Path, metadata: Described | None = None) -> Described:
    """What a ``model.toml`` and a ``preprocessor_config.json`` say of the model at ``model``.

    It may be a ``model.toml`` itself; one that stands beside a model and names other weights says
    nothing of it. What ``metadata`` says comes after the one and before the other. Raises
    CheckpointError for a file that says what makes no sense.
    """
    metadata = metadata or Described()
    if is_toml(model):
        found = read_model_toml(model)
        if found.weights is None:
            raise CheckpointError(f"{model} names no weights", 'add weights = "CNN.pt"')
        return found.over(metadata).over(_processor(found.weights.parent))
    found = Described()
    path = model.parent / MODEL_TOML
    if os.path.lexists(path):
        found = read_model_toml(path)
        if found.weights is not None and not _is_same(found.weights, model):
            found = Described()
    return found.over(metadata).over(_processor(model.parent))


def is_toml(model: Path) -> bool:
    """Whether a model is given by its ``model.toml``."""
    return model.suffix.lower() == ".toml"


def read_model_toml(path: Path) -> Described:
    """What a ``model.toml`` says. Raises CheckpointError."""
    try:
        text = _read(path, MAX_TOML_BYTES).decode("utf-8-sig")
        _check_dots(text, path)
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not TOML: {error}", _SHOULD) from error
    if "network" in data:
        raise CheckpointError(
            f"{path} names a network, which is code, and only you may choose what runs",
            "take it out, and name the class by --network FILE.py:CLASS",
        )
    weights = data.get("weights")
    if weights is not None and not _is_beside(weights):
        raise CheckpointError(
            f"{path}: weights is no name of a file in this folder or below",
            'write weights = "CNN.pt"',
        )
    return described(data, path, weights=None if weights is None else path.parent / weights)


_NO_KEYS = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?(?:""""{0,2}|\\?\Z)'  # strings of several lines
    r"|'''[\s\S]*?(?:''''{0,2}|\Z)"
    r'|"(?:\\.|[^"\\\n])*"?'  # of one line, ended or not
    r"|'[^'\n]*'?"
    r"|\#[^\n]*"  # a comment
)


def _check_dots(text: str, path: Path) -> None:
    """Raise CheckpointError for keys of many parts; numbers have dots, too, but few."""
    if any(line.count(".") > MAX_DOTS for line in _NO_KEYS.sub("", text).split("\n")):
        raise CheckpointError(
            f"{path} has more than {MAX_DOTS} dots in a line, beside those in quotes", _SHOULD
        )


def from_metadata(path: Path, metadata: Mapping[str, str]) -> Described:
    """What the metadata of the model file ``path`` says. Raises CheckpointError."""
    if (text := metadata.get(METADATA)) is None:
        return Described()
    where = f"the metadata {METADATA} of the model {path}"
    try:
        data = load_json(text, doubled="a name that stands twice")
    except (TypeError, ValueError, RecursionError) as error:  # the first for what is no text
        raise CheckpointError(f"{where} is not JSON: {error}", _SHOULD) from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{where} is no JSON object", _SHOULD)
    return described(data, where)


def described(data: Mapping[str, Any], where: Path | str, weights: Path | None = None) -> Described:
    """What a table of settings says, which ``where`` holds. Raises CheckpointError."""
    _check_names(data, _KEYS if isinstance(where, Path) else _KEYS[1:], f"{where}: ")
    given = data.get("input", {})
    if not isinstance(given, Mapping):
        raise CheckpointError(f"{where}: input is no table", _SHOULD)
    _check_names(given, tuple(GIVEN_AS), f"{where}: input.")
    fit = data.get("fit")
    if fit is not None and fit not in PREPROCESSING:
        raise CheckpointError(
            f"{where}: fit {quoted(fit)} is unknown",
            f"choose from {', '.join(PREPROCESSING)}",
        )
    try:
        declaration = Declaration.of(given, lambda name: f"input.{name}")
        labels = _labels(data.get("labels", ()), where)
    except UsageError as error:
        raise CheckpointError(f"{where}: {error.problem}", error.remedy) from error
    return Described(
        weights=weights, declaration=declaration, labels=labels, fit=fit, by=(str(where),)
    )


def _labels(given: Any, where: Path | str) -> tuple[str, ...]:
    """The names of the classes, which may be in a file. Raises UsageError."""
    if isinstance(where, Path) and isinstance(given, str):
        if not _is_beside(given):
            raise UsageError(
                "labels is no name of a file in this folder or below", 'write labels = "labels.txt"'
            )
        given = read_labels(where.parent / given)
    return check_labels(given)


def _check_names(data: Mapping[str, Any], known: tuple[str, ...], before: str) -> None:
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(str(name)[:100], known, n=1)
            raise CheckpointError(
                f"{before}{one_line(str(name), 100)} is unknown",
                f"write {near[0]}" if near else f"it may hold {', '.join(known)}",
            )


def _processor(folder: Path) -> Described:
    """What Hugging Face's processor of images would do to them."""
    path = folder / PREPROCESSOR
    if not os.path.lexists(path):
        return Described()
    try:
        data = load_json(_read(path, MAX_BYTES), doubled="a name that stands twice")
        declaration = Declaration.of(_as_declared(data), lambda name: name)
    except _NO_PROCESSOR as error:
        why = one_line(f"{type(error).__name__}: {error}")
        raise CheckpointError(f"{path} is not JSON of a processor: {why}", _AWAY) from error
    except UsageError as error:
        raise CheckpointError(f"{path}: {error.problem}", _AWAY) from error
    return Described(declaration=declaration, by=(str(path),))


_AWAY = f"repair it or move it away, and declare the input in {MODEL_TOML}"
_NO_PROCESSOR = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
)


def _as_declared(data: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name in ("do_flip_channel_order", "rescale_offset"):
        if data.get(name):
            raise UsageError(f"{name} is {quoted(data[name])}, which nothing does here")
    size = _sides(data.get("size")) if data.get("do_resize", True) else None
    if data.get("do_center_crop"):
        crop = _sides(data.get("crop_size"))
        if None not in (size, crop) and size != crop:
            raise UsageError(
                f"images are resized to {quoted(size)} and cropped to {quoted(crop)}, and nothing "
                "is cropped here"
            )
        size = crop
    if size is not None:
        given["size"] = size
    white = WHITE * float(data.get("rescale_factor", 1 / WHITE))  # of what white becomes
    if not data.get("do_rescale", True):
        white = float(WHITE)
    mean, std = [0.0], [1.0]
    if data.get("do_normalize", data.get("image_mean") is not None):
        mean, std = (_listed(data[name]) for name in ("image_mean", "image_std"))
        given["channels"] = len(mean)
    given["range"] = "0-1"  # which both are for here
    given["mean"] = [float(number) / white for number in mean]
    given["std"] = [float(number) / white for number in std]
    return given


def _sides(size: Any) -> Any:
    """Height and width, by whatever name; what is neither stays as it is."""
    if isinstance(size, Mapping):
        side = size.get("shortest_edge")
        return [size.get("height", side), size.get("width", side)]
    return [size, size] if isinstance(size, int) else size


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _read(path: Path, limit: int) -> bytes:
    try:
        data = read_regular(path, limit)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot read {path}: {why}", "repair it or move it away") from error
    if data is None:
        raise CheckpointError(
            f"{path} is larger than {limit // KIB} KiB", "write what docs describe"
        )
    return data


def _is_beside(name: Any) -> bool:
    """Whether this names a file in the same folder or below: whoever wrote it reads no others."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
