"""A file of the user's code, read once and parsed; nothing of it runs here."""

from __future__ import annotations
import __future__

import ast
import hashlib
import io
import linecache
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchdigit.errors import CheckpointError
from batchdigit.networks.notebooks import NotANotebookError, read_cells
from batchdigit.system.regular import NotRegularError, read_regular

MAX_SOURCE = 16 << 20  # bytes
NOTEBOOK, SCRIPT = ".ipynb", ".py"


@dataclass(frozen=True, eq=False)
class Part:
    """A script, or a cell of a notebook.

    ``place`` is the name of its file in tracebacks, and ``shown`` that which the user gave it.
    """

    place: str
    shown: str
    tree: ast.Module


@dataclass(frozen=True, eq=False)
class SourceFile:
    """What a file holds; ``unparsed`` says of each cell that is left out why it was."""

    shown: str
    data: bytes
    parts: tuple[Part, ...]
    unparsed: tuple[str, ...] = ()

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the file's bytes."""
        return hashlib.sha256(self.data).digest()

    def statements(self) -> Iterator[tuple[Part, ast.stmt]]:
        """Each statement of the top level, in order, with the part that it stands in."""
        for part in self.parts:
            for node in part.tree.body:
                yield part, node

    @property
    def flags(self) -> int:
        """The compiler's flags for what the file imports from ``__future__``; cells share them."""
        found = 0
        for _, node in self.statements():
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                for alias in node.names:
                    feature = getattr(__future__, alias.name, None)
                    found |= getattr(feature, "compiler_flag", 0)
        return found


def read_source(path: Path, shown: str) -> SourceFile:
    """The script or notebook at ``path``, which messages call ``shown``. Raises CheckpointError."""
    remedy = f"name a {SCRIPT} or {NOTEBOOK} file with the network's class"
    try:
        data = read_regular(path, MAX_SOURCE)
    except NotRegularError as error:
        raise CheckpointError(f"{shown} is {error.strerror}", remedy) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {shown}: {error.strerror}", remedy) from error
    if data is None:
        raise CheckpointError(f"{shown} is larger than {MAX_SOURCE >> 20} MiB", remedy)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # such as of odd escapes in texts, which is not our business
        try:
            if path.suffix.lower() == NOTEBOOK:
                return _notebook(data, path, shown)
            return SourceFile(shown, data, (Part(str(path), shown, _parsed(data, path, shown)),))
        except UnicodeError as error:
            raise CheckpointError(f"{shown} is not UTF-8", "save it as UTF-8") from error


def _parsed(data: bytes, path: Path, shown: str) -> ast.Module:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return ast.parse(data.decode(encoding), str(path))
    except SyntaxError as error:  # of an unknown encoding, too
        if error.msg.startswith("invalid or missing encoding"):  # of tokenize
            raise CheckpointError(f"{shown} is not UTF-8", "save it as UTF-8") from error
        where = f", line {error.lineno}" if error.lineno else ""
        raise CheckpointError(
            f"{shown}{where} is not Python: {error.msg}", "correct it, so that Python can run it"
        ) from error
    except UnicodeError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:  # null characters, deep nesting
        raise CheckpointError(
            f"{shown} is not Python: {str(error) or type(error).__name__}",
            "correct it, so that Python can run it",
        ) from error


def _notebook(data: bytes, path: Path, shown: str) -> SourceFile:
    try:
        cells = read_cells(data)
    except NotANotebookError as error:
        raise CheckpointError(f"{shown} {error}", "name a notebook in Python") from error
    parts, unparsed = [], []
    for cell in cells:
        if cell.tree is None:
            unparsed.append(f"cell {cell.number} ({cell.problem})")
            continue
        place = f"{path}, cell {cell.number}"
        # There is no such file, but torch.jit and inspect look for the lines of functions there.
        lines = cell.text.splitlines(keepends=True)
        linecache.cache[place] = (len(cell.text), None, lines, place)
        parts.append(Part(place, f"{shown}, cell {cell.number}", cell.tree))
    return SourceFile(shown, data, tuple(parts), tuple(unparsed))
