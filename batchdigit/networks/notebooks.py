"""The Python in a Jupyter notebook: its code cells, without what only IPython understands.

The format is nbformat 4 (``cells``) or 3 (``worksheets``): https://nbformat.readthedocs.io
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PYTHON_INSIDE = re.compile(r"\s*%%(time|capture)\b")  # magics of a cell whose body is Python
_MAGIC = re.compile(r"\s*([%!?]|[\w.,\s]+=\s*[%!]\s*\w)|.*\?\s*$")
_AT_ONCE = 100  # lines of magics that are looked for one by one; each costs a parse


class NotANotebookError(ValueError):
    """A file that holds no notebook in Python; the message goes on after its name."""


@dataclass(frozen=True)
class Cell:
    """A code cell, by its number among these: its text, and what it parses to or why it does not.

    The text has as many lines as the cell, so that the numbers of lines are those of the cell.
    """

    number: int
    text: str
    tree: ast.Module | None
    problem: str = ""


def read_cells(data: bytes) -> list[Cell]:
    """The code cells of a notebook, but for those that are written in another language.

    Raises NotANotebookError, UnicodeError.
    """
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotANotebookError("holds no notebook: it is not JSON") from error
    if not isinstance(notebook, dict):
        raise NotANotebookError("holds no notebook: it is no JSON object")
    language = _language(notebook)
    if not language.startswith(("python", "ipython")):
        raise NotANotebookError(f"is a notebook in {language}, not in Python")
    return [
        _parsed(number, text)
        for number, text in enumerate(_code(notebook), start=1)
        if not text.lstrip().startswith("%%") or _PYTHON_INSIDE.match(text)
    ]


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for part, key in (("kernelspec", "language"), ("language_info", "name")):
        described = metadata.get(part) if isinstance(metadata, dict) else None
        name = described.get(key) if isinstance(described, dict) else None
        if isinstance(name, str) and name:
            return name.lower()
    return "python"


def _code(notebook: dict[str, Any]) -> Iterator[str]:
    """The text of each code cell."""
    sheets = notebook.get("worksheets")
    parts = [notebook, *sheets] if isinstance(sheets, list) else [notebook]
    cells = [part.get("cells") for part in parts if isinstance(part, dict)]
    if not any(isinstance(some, list) for some in cells):
        raise NotANotebookError("holds no notebook: it has no cells")
    for cell in (cell for some in cells if isinstance(some, list) for cell in some):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            text = cell.get("source", cell.get("input", ""))
            yield "".join(map(str, text)) if isinstance(text, list) else str(text)


def _parsed(number: int, text: str) -> Cell:
    lines = text.split("\n")
    for _ in range(_AT_ONCE):
        try:
            return Cell(number, "\n".join(lines), ast.parse("\n".join(lines)))
        except SyntaxError as error:
            # A line that starts with % may also go on with an expression, or be part of a text, so
            # one is left out only where Python does not understand it.
            at = (error.lineno or 0) - 1
            if not 0 <= at < len(lines) or not _MAGIC.match(lines[at]):
                break
            _leave_out(lines, at)
        except (ValueError, RecursionError, MemoryError):
            break
    for at, line in enumerate(lines):
        if _MAGIC.match(line):
            _leave_out(lines, at)
    try:
        return Cell(number, "\n".join(lines), ast.parse("\n".join(lines)))
    except SyntaxError as error:
        return Cell(number, text, None, f"line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Cell(number, text, None, str(error) or type(error).__name__)


def _leave_out(lines: list[str], at: int) -> None:
    """Put ``pass`` in the place of a line, and nothing in that of lines which it goes on in."""
    line = lines[at]
    lines[at] = line[: len(line) - len(line.lstrip())] + "pass"
    while line.rstrip().endswith("\\") and at + 1 < len(lines):
        at += 1
        line, lines[at] = lines[at], ""
