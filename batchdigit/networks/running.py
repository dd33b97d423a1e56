"""Modules of which only imports, definitions and constants run: the user's file, and its siblings.

A sibling is a module in the folder of the file, or below it, that the file imports. It is loaded
from its source, never from a cache that an ordinary run has left, and leaves none.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from batchdigit.networks.definitions import Definitions, Kept, LeftOut, Step
from batchdigit.networks.explaining import (
    EVERYTHING,
    AbsentNameError,
    Explanation,
    UserCode,
    described,
)
from batchdigit.networks.scopes import Bindings, imports_everything
from batchdigit.networks.sourcefile import SCRIPT, SourceFile, read_source

PRIVATE = "_batchdigit_network"  # the package that the modules of files named by the user are in
_INIT = "__init__.py"
_COMPOUND = (ast.If, ast.Try)


def run_steps(steps: Iterable[Step], module: ModuleType, code: UserCode, flags: int = 0) -> None:
    """Run the steps of a file as ``module``.

    What fails does not stop what comes after: its names are absent, and ``code`` knows why.
    """
    namespace = module.__dict__
    absent = code.absent[module.__name__] = {}

    def ask(name: str) -> object:
        if name in absent and not name.startswith("__"):
            raise AbsentNameError(absent[name])
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    namespace["__getattr__"] = ask
    for step in steps:
        code.shown[step.part.place] = step.part.shown
        if isinstance(step, LeftOut):
            for name in step.rebound:
                namespace.pop(name, None)
            reasons = {name: _left_out(name, line, step) for name, line in step.lines.items()}
        else:
            reasons = _run(step, namespace, code, flags)
        absent |= {name: reasons[name] for name in reasons if name not in namespace}
    exported = namespace.get("__all__")
    if isinstance(exported, list | tuple):  # one that is absent would keep out all after it
        namespace["__all__"] = [name for name in exported if name not in absent]


def _run(
    step: Kept, namespace: dict[str, object], code: UserCode, flags: int
) -> dict[str, Explanation]:
    """Run one statement; why each of its names is absent, if it is."""
    lines = Bindings.of([step.node]).lines
    try:
        tree = ast.fix_missing_locations(ast.Module([step.node], []))
        exec(  # noqa: S102  (which is what the user asks for, and all that is kept is harmless)
            compile(tree, step.part.place, "exec", flags, dont_inherit=True), namespace
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001  (code and packages of others)
        reason = code.explain(error) or Explanation(
            f"{step.part.shown}, line {step.node.lineno}, raises {described(error)}",
            "correct it there",
        )
        if not isinstance(step.node, _COMPOUND):
            for name in lines:  # what it was before is not what it is after this statement
                namespace.pop(name, None)
        names = [*lines, EVERYTHING] if imports_everything(step.node) else lines
        return dict.fromkeys(names, reason)
    return {
        name: Explanation(
            f"`{name}`, which line {line} of {step.part.shown} may set, was not set there",
            "set it in every case",
        )
        for name, line in lines.items()
    }


def _left_out(name: str, line: int, step: LeftOut) -> Explanation:
    return Explanation(
        f"`{name}`, which line {line} of {step.part.shown} sets, was not run: only imports, "
        "definitions and constants of that file are",
        "make it a constant, or give the class arguments",
    )


def run_file(source: SourceFile, path: Path, steps: Iterable[Step], code: UserCode) -> ModuleType:
    """Run ``steps`` of the file at ``path`` as a module of a private name, and return that."""
    package, _root = package_of(path.parent)
    name = path.stem.replace(".", "_")
    module = ModuleType(f"{PRIVATE}.{name}")
    module.__file__ = str(path)
    module.__package__ = package
    # What is imported relatively is looked up from the spec, by Pythons that ignore __package__.
    module.__spec__ = ModuleSpec(f"{package}.{name}" if package else name, None, origin=str(path))
    sys.modules.setdefault(PRIVATE, ModuleType(PRIVATE))
    sys.modules[module.__name__] = module  # where dataclasses and copies look for it
    run_steps(steps, module, code, source.flags)
    return module


def package_of(folder: Path) -> tuple[str, Path]:
    """The name of the package that ``folder`` is, empty if none, and the folder it lies in."""
    names: list[str] = []
    while (folder / _INIT).is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names), folder


class SiblingFinder(importlib.abc.MetaPathFinder):
    """Finds the modules in some folders and in the packages there, and loads them restrictedly.

    Those of the standard library come first, whatever the folders hold.
    """

    def __init__(self, folders: Sequence[Path], shown: str, code: UserCode) -> None:
        self.folders = [str(folder) for folder in dict.fromkeys(folders)]
        self.found: set[str] = set()
        self._shown = shown
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of these folders; None for any other."""
        package, _, name = fullname.rpartition(".")
        if not package:
            if name in sys.stdlib_module_names:
                return None
            places = self.folders
        elif package in self.found:
            places = list(path or ())
        else:
            return None
        for place in places:
            spec = self._spec_in(place, fullname, name)
            if spec is not None:
                self.found.add(fullname)
                return spec
        return self._namespace(places, fullname, name)

    def _spec_in(self, place: str, fullname: str, name: str) -> ModuleSpec | None:
        folder = os.path.join(place, name)
        init, file = os.path.join(folder, _INIT), folder + SCRIPT
        if os.path.isfile(init):
            return self._spec(fullname, init, [folder])
        return self._spec(fullname, file, None) if os.path.isfile(file) else None

    def _spec(self, fullname: str, file: str, inside: list[str] | None) -> ModuleSpec | None:
        name = os.path.relpath(file, self.folders[-1])
        shown = os.path.normpath(os.path.join(self._shown, name))
        loader = DefinitionsLoader(file, name, shown, self._code)
        return importlib.util.spec_from_file_location(
            fullname, file, loader=loader, submodule_search_locations=inside
        )

    def _namespace(self, places: Sequence[str], fullname: str, name: str) -> ModuleSpec | None:
        """A folder without ``__init__.py``, if nothing else is found by that name."""
        folders = [os.path.join(place, name) for place in places]
        folders = [folder for folder in folders if os.path.isdir(folder)]
        if not folders or ("." not in fullname and _is_elsewhere(fullname)):
            return None
        self.found.add(fullname)
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = folders
        return spec


def _is_elsewhere(name: str) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(name)
    return spec is not None and spec.origin is not None


class DefinitionsLoader(importlib.abc.InspectLoader):
    """Loads one sibling: of its top level, only what the user's own file may run of its own."""

    def __init__(self, path: str, name: str, shown: str, code: UserCode) -> None:
        self.path = path
        self._name = name
        self._shown = shown
        self._code = code

    def get_source(self, fullname: str) -> str:
        """The whole text, for those who show lines of it."""
        return importlib.util.decode_source(Path(self.path).read_bytes())

    def get_filename(self, fullname: str) -> str:
        """Where the module is."""
        return self.path

    def exec_module(self, module: ModuleType) -> None:
        """Run what may run; raises CheckpointError for a file that is no Python."""
        source = read_source(Path(self.path), self._shown)
        self._code.digests[Path(self._name).as_posix()] = source.digest
        run_steps(Definitions.of(source).steps, module, self._code, source.flags)


@contextlib.contextmanager
def siblings(path: Path, shown: str, code: UserCode) -> Iterator[None]:
    """Make the folder of the file at ``path`` importable, as Python does for a script.

    Within the block, it goes before what is installed; afterwards, for what is imported while the
    network computes, it comes last. Modules that earlier blocks have found are imported anew.
    """
    _package, root = package_of(path.parent)
    above = os.path.relpath(root, path.parent)
    finder = SiblingFinder([path.parent, root], os.path.join(os.path.dirname(shown), above), code)
    forget_siblings()
    for earlier in [one for one in sys.meta_path if isinstance(one, SiblingFinder)]:
        if earlier.folders == finder.folders:
            sys.meta_path.remove(earlier)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.meta_path.append(finder)


def forget_siblings() -> None:
    """Take all siblings that were loaded from ``sys.modules``, so that they are loaded anew."""
    for finder in sys.meta_path:
        if isinstance(finder, SiblingFinder):
            for name in finder.found:
                sys.modules.pop(name, None)
            finder.found.clear()
