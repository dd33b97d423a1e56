"""Modules of which only imports, definitions and constants run: the user's file, and its siblings.

A sibling is a module in the folder of the file, or below it, that the file imports. It is loaded
from its source, never from a cache that an ordinary run has left, and leaves none.

Siblings are in ``sys.modules`` only while the user's code is made, or imports something. Otherwise,
what whoever calls this program has imported by the same names is there, as he left it.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from batchdigit.networks.definitions import Definitions, Kept, LeftOut, Step
from batchdigit.networks.explaining import (
    EVERYTHING,
    AbsentNameError,
    Explanation,
    UserCode,
    described,
    is_installed_file,
)
from batchdigit.networks.scopes import Bindings, imports_everything
from batchdigit.networks.sourcefile import SCRIPT, SourceFile, read_source

PRIVATE = "_batchdigit_network"  # the package that the modules of files named by the user are in
_INIT = "__init__.py"
_COMPOUND = (ast.If, ast.Try)
_NEVER_ASIDE = {"__main__", PRIVATE, __name__.partition(".")[0]}
_SWAPPING = threading.RLock()  # held while siblings are in sys.modules


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
    if code.builtins:
        namespace["__builtins__"] = code.builtins
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
        self._shown = shown
        self._code = code
        self._building = False
        self._specs: dict[str, ModuleSpec] = {}
        self._modules: dict[str, ModuleType] = {}  # those loaded, while not in sys.modules
        self._known: dict[str, bool] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of these folders; None for any other."""
        package = fullname.rpartition(".")[0]
        if package and package not in self._specs:
            return None
        spec = self._found(fullname, list(path or ()) if package else self.folders)
        if spec is not None:
            self._specs[fullname] = spec
        return spec

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Let all code find the siblings, in all threads, before what is installed."""
        with _SWAPPING, self._swapped():
            self._building = True
            try:
                yield
            finally:
                self._building = False

    def import_(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  (as Python names them)
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """What ``__import__`` is to the user's file and to its siblings: these find each other.

        So do import statements that run later, in ``forward()``. ``importlib.import_module`` and
        ``pickle`` find siblings only while the network is made.
        """
        with contextlib.ExitStack() as stack:
            if not self._building and (level or self._has(name.partition(".")[0])):
                stack.enter_context(_SWAPPING)
                stack.enter_context(self._swapped())
            found = builtins.__import__(name, globals, locals, fromlist or (), level)
            if fromlist and self._specs.get(found.__name__) is found.__spec__ is not None:
                for one in self._code.absent.get(found.__name__, {}).keys() & {*fromlist}:
                    if one != EVERYTHING:
                        getattr(found, one)  # which tells why, unlike an ImportError
            return found

    @contextlib.contextmanager
    def _swapped(self) -> Iterator[None]:
        """Have the siblings in ``sys.modules``, in place of others of the same names."""
        if self in sys.meta_path:
            yield
            return
        aside = {name: sys.modules[name] for name in list(sys.modules) if self._is_hidden(name)}
        for name in aside:
            del sys.modules[name]
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
            own = {name for name in self._specs if self._is_own(name)}
            names = [name for name in list(sys.modules) if name.partition(".")[0] in own]
            self._modules = {name: sys.modules.pop(name) for name in names}
            sys.modules.update(aside)

    def _is_own(self, name: str) -> bool:
        return getattr(sys.modules.get(name), "__spec__", None) is self._specs[name]

    def _is_hidden(self, name: str) -> bool:
        """Whether a module that is imported already gives way to a sibling.

        An installed package does not, because others of its kind may rely on it.
        """
        top = name.partition(".")[0]
        if top in _NEVER_ASIDE or not self._has(top):
            return False
        file = getattr(sys.modules.get(top), "__file__", None)
        return not (file and is_installed_file(file))

    def _has(self, top: str) -> bool:
        """Whether the folders have a module of that name."""
        if top not in self._known:
            self._known[top] = self._found(top, self.folders) is not None
        return self._known[top]

    def _found(self, fullname: str, places: Sequence[str]) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if not package and name in sys.stdlib_module_names:
            return None
        for place in places:
            spec = self._spec_in(place, fullname, name)
            if spec is not None:
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

    Within the block, it goes before what is installed; afterwards, only import statements of the
    user's own code find it. Siblings that earlier blocks have found are others.
    """
    _package, root = package_of(path.parent)
    above = os.path.relpath(root, path.parent)
    finder = SiblingFinder([path.parent, root], os.path.join(os.path.dirname(shown), above), code)
    code.builtins = {**vars(builtins), "__import__": finder.import_}
    with finder.building():
        yield
