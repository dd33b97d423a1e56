"""A file of source code is read once, and what is no source code is refused with its line."""

import os
from pathlib import Path

import pytest

from batchdigit.errors import CheckpointError
from batchdigit.networks import sourcefile
from batchdigit.networks.sourcefile import read_source
from tests.networks.conftest import Write


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_source(path, path.name)
    assert caught.value.remedy
    return caught.value.problem


def test_script_is_one_part_with_its_statements(write: Write) -> None:
    path = write("net.py", "x = 1\ny = 2\n")
    source = read_source(path, "a/net.py")
    assert [(part.place, part.shown) for part in source.parts] == [(str(path), "a/net.py")]
    assert [node.lineno for _, node in source.statements()] == [1, 2]


def test_notebook_has_a_part_for_each_cell(write_notebook: Write) -> None:
    path = write_notebook("nb.ipynb", "x = 1", "y = (", "z = 3")
    source = read_source(path, "nb.ipynb")
    assert [part.shown for part in source.parts] == ["nb.ipynb, cell 1", "nb.ipynb, cell 3"]
    assert source.unparsed == ("cell 2 (line 1: '(' was never closed)",)


def test_missing_file_is_refused(folder: Path) -> None:
    assert refusal(folder / "net.py") == "cannot read net.py: No such file or directory"


def test_folder_is_refused(folder: Path) -> None:
    (folder / "net.py").mkdir()
    assert refusal(folder / "net.py") == "net.py is not a regular file but a folder"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_fifo_is_refused_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "net.py")
    assert refusal(folder / "net.py") == "net.py is not a regular file but a FIFO"


def test_file_beyond_the_limit_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sourcefile, "MAX_SOURCE", 1 << 20)
    path = write("net.py", "#" * (1 << 20))
    assert read_source(path, "net.py").digest
    path = write("net.py", "#" * (1 << 20) + "\n")
    assert refusal(path) == "net.py is larger than 1 MiB"


@pytest.mark.parametrize("name", ["net.py", "nb.ipynb"])
def test_file_that_is_not_utf8_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x = '\xe9'\n\n\n\n")
    assert refusal(folder / name) == f"{name} is not UTF-8"


def test_file_that_declares_its_encoding_is_read_in_that(folder: Path) -> None:
    (folder / "net.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    (_, node), *_ = read_source(folder / "net.py", "net.py").statements()
    assert node.value.value == "é"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\nclass Net(:\n", "net.py, line 2 is not Python: invalid syntax"),
        ("def f():\nx = 1\n", "net.py, line 2 is not Python: expected an indented block"),
        ("x = 1\0\n", "net.py is not Python: source code"),
        ("# coding: klingon\n", "net.py is not Python: unknown encoding: klingon"),
        ("x = " + "(" * 1000 + ")" * 1000, "net.py"),
    ],
)
def test_what_is_no_python_is_refused(write: Write, text: str, says: str) -> None:
    assert refusal(write("net.py", text)).startswith(says)


def test_odd_escapes_raise_no_warning(write: Write) -> None:
    """Python would warn of them, and here, warnings are errors."""
    assert read_source(write("net.py", r"x = '\d'"), "net.py").parts


def test_future_of_any_cell_is_known(write_notebook: Write) -> None:
    import __future__

    path = write_notebook("nb.ipynb", "x = 1", "from __future__ import annotations")
    assert read_source(path, "nb.ipynb").flags == __future__.annotations.compiler_flag
