"""A stranger's network in batchdigit: the files it needs, and the words of the command."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from tests.strangers.catalogue import Stranger
from tests.strangers.trained import pictures, saved


def save_pictures(stranger: Stranger, folder: Path, count: int) -> None:
    """Write some of the images that a network was trained on, in the order of their names."""
    folder.mkdir()
    for number, picture in enumerate(pictures(stranger, count)):
        picture.save(folder / f"{number:03}.png")


def model_options(stranger: Stranger, how: str, folder: Path) -> list[str]:
    """The words that name a network, saved in ``folder`` in one of the FORMATS."""
    folder.mkdir()
    words = ["--model", str(saved(stranger, how, folder))]
    if not how.startswith("onnx"):
        words += network_options(stranger)
    return words


def network_options(stranger: Stranger) -> list[str]:
    """The words that name the class whose weights a file holds."""
    words = ["--network", stranger.network]
    if stranger.args is not None:
        words += ["--network-args", json.dumps(stranger.args)]
    return words


def declare(stranger: Stranger, folder: Path) -> list[str]:
    """The words that declare a network's input and labels; or a model.toml in ``folder`` does."""
    words = [word for pair in (stranger.flags or {}).items() for word in pair if word]
    named = False
    if stranger.model_toml is not None:
        (folder / "model.toml").write_text(toml(stranger.model_toml), encoding="utf-8")
        named = "labels" in stranger.model_toml
    if stranger.labels and not named:
        labels = folder / "labels.txt"
        labels.write_text("\n".join(stranger.labels), encoding="utf-8")
        words += ["--labels", str(labels)]
    return words


def traces() -> tuple[object, ...]:
    """What some of the authors' programs would change, if they ran."""
    return os.environ.get("CUDA_VISIBLE_DEVICES"), torch.backends.cudnn.enabled, sys.argv[:]


def toml(content: dict[str, Any]) -> str:
    """TOML of tables that hold plain values, which are written as in JSON."""
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in content.items() if name not in tables
    ]
    for name, table in tables.items():
        lines += [
            "",
            f"[{name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in table.items()),
        ]
    return "\n".join(lines).strip() + "\n"
