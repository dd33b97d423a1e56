"""A folder to write networks in, and a process that is afterwards as it was before."""

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, which is the working folder; what was imported there is forgotten."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    finders, modules = list(sys.meta_path), set(sys.modules)
    yield tmp_path / "here"
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)) or name.startswith("_batchdigit_network"):
            del sys.modules[name]


@pytest.fixture
def write(folder: Path) -> Write:
    """Write a file of that name below the folder."""

    def write_file(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def write_notebook(folder: Path) -> Write:
    """Write a notebook of that name, with these code cells."""

    def write_file(name: str, *cells: str) -> Path:
        code = [{"cell_type": "code", "source": textwrap.dedent(cell)} for cell in cells]
        text = {"cell_type": "markdown", "source": ["# A network\n", "class Not: code"]}
        path = folder / name
        path.write_text(json.dumps({"cells": [text, *code], "nbformat": 4}), encoding="utf-8")
        return path

    return write_file
