"""A module that lies in the working folder can be imported; nothing else of that folder can."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from batchdigit.networks.sourcefile import SCRIPT


class WorkingFolderFinder(importlib.abc.MetaPathFinder):
    """Finds the user's module in a folder, after all that is found elsewhere.

    Other modules of the folder are found only while that one is imported and called
    (``is_open``), or if they are among ``names``: those that were imported then, for example.
    """

    def __init__(self, folder: Path, top: str) -> None:
        self.folder = str(folder)
        self.names = {top}
        self.is_open = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module or package of the folder; what packages hold, they tell."""
        if path is not None or not (self.is_open or fullname in self.names):
            return None
        spec = PathFinder.find_spec(fullname, [self.folder])
        if spec is not None:
            self.names.add(fullname)
        return spec


@contextlib.contextmanager
def working_folder(top: str) -> Iterator[set[str]]:
    """Within the block, let what is found nowhere else lie in the working folder.

    Only if the module or package ``top`` is there: as for ``python -m``, without the lasting place
    in ``sys.path``. The names that it gives, and those added to them, are found there afterwards.
    """
    here = Path.cwd()
    finder = next((one for one in sys.meta_path if _is_for(one, here, top)), None)
    if finder is None:
        if not ((here / top).is_dir() or (here / f"{top}{SCRIPT}").is_file()):
            yield set()
            return
        finder = WorkingFolderFinder(here, top)
    else:
        sys.meta_path.remove(finder)
    assert isinstance(finder, WorkingFolderFinder)  # noqa: S101
    importlib.invalidate_caches()
    sys.meta_path.append(finder)
    finder.is_open = True
    try:
        yield finder.names
    finally:
        finder.is_open = False
        if not any(name in sys.modules for name in finder.names):
            sys.meta_path.remove(finder)


def _is_for(finder: object, folder: Path, top: str) -> bool:
    is_ours = isinstance(finder, WorkingFolderFinder)
    return is_ours and finder.folder == str(folder) and top in finder.names  # type: ignore[attr-defined]
