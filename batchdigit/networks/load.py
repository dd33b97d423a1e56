"""The network that the user names, made by his own code.

Of a file, only imports, definitions and constants run (:mod:`batchdigit.networks.definitions`); a
module that is named as one is imported whole, as Python does.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from batchdigit.errors import CheckpointError, UsageError, one_line
from batchdigit.networks.building import Arguments, build, failed, undisturbed
from batchdigit.networks.definitions import Definitions
from batchdigit.networks.explaining import (
    EVERYTHING,
    UserCode,
    install,
    is_installed_file,
    relative,
)
from batchdigit.networks.naming import NetworkName
from batchdigit.networks.running import run_file, siblings
from batchdigit.networks.sourcefile import SCRIPT, read_source
from batchdigit.networks.workingfolder import working_folder
from batchdigit.system.imports import loading
from batchdigit.system.json_objects import load_json

_MAX_NAMED = 5
# The spec and the digest of the file of each module of the user's, as they were at first.
_LOADED: weakref.WeakKeyDictionary[ModuleType, tuple[object, bytes]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class OwnNetwork:
    """A network of the user's own: a torch.nn.Module in eval(), on the CPU, in float32.

    ``name`` is as it was given.
    """

    name: str
    module: Any
    code: UserCode = field(repr=False)
    digest: Callable[[], str] = field(repr=False)

    @property
    def sha256(self) -> str:
        """What tells its code from other code: the digest of its file.

        It is mixed with those of the files beside it that it has imported until now, which may be
        more once ``forward()`` has run. Empty if there is no source.
        """
        return self.digest()

    def explain(self, error: BaseException) -> str | None:
        """What ``error``, raised by the network, says, in one line; None if not by its code."""
        known = self.code.explain(error)
        return None if known is None else one_line(known.problem)

    def refusal(self, error: BaseException) -> CheckpointError:
        """What ``error``, raised by the network, is for this program, with a remedy."""
        return failed(error, self.name, self.code)


def network_arguments(text: str) -> dict[str, Any] | list[Any]:
    """What ``--network-args`` says: arguments by their names, or by their order."""
    remedy = """give an object, as in '{"classes": 10}', or an array, as in '[10]'"""
    try:
        given = load_json(text, "a name stands there twice")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--network-args {one_line(text)} is not JSON: {error}", remedy) from error
    if not isinstance(given, dict | list):
        raise UsageError(f"--network-args {one_line(text)} is neither object nor array", remedy)
    return given


def load_network(name: NetworkName, arguments: Arguments) -> OwnNetwork:
    """Make the network that ``name`` names, with these arguments.

    Raises CheckpointError for whatever the user's code does not have or raises.
    """
    with loading("PyTorch", "torch"):
        import torch  # noqa: F401  (with a message of its own, if it is not there)

    code = UserCode()
    with undisturbed():
        if name.is_file:
            return _from_file(name, arguments, code)
        return _from_module(name, arguments, code)


def _from_file(name: NetworkName, arguments: Arguments, code: UserCode) -> OwnNetwork:
    path = Path(os.path.realpath(name.source))
    source = read_source(path, name.source)
    definitions = Definitions.of(source)
    first = name.class_name.partition(".")[0]
    with siblings(path, name.source, code):
        module = run_file(source, path, definitions.needed_for(first), code)
        if first not in vars(module):
            if first in definitions.makers:
                raise _no_class(name, definitions.makers[first])
            absent = code.absent[module.__name__]
            why = absent.get(first if first in definitions.bound else EVERYTHING)
            if why is not None:
                raise CheckpointError(why.problem, why.remedy)
            raise _not_found(name, definitions.names, source.unparsed)
        maker = _maker(name, module, definitions.makers.get(first, ""))
        built = build(maker, f"{name.class_name} of {name.source}", arguments, code)
    return OwnNetwork(str(name), built, code, lambda: _mixed(source.digest, code.digests))


def _from_module(name: NetworkName, arguments: Arguments, code: UserCode) -> OwnNetwork:
    top = name.source.partition(".")[0]
    with working_folder(top) as neighbours:
        try:
            folder = _find(top, code)
            module = importlib.import_module(name.source)
        except (Exception, SystemExit) as error:  # the code of others
            if isinstance(error, ModuleNotFoundError) and f"{name.source}.".startswith(
                f"{error.name}."
            ):
                raise CheckpointError(
                    f"there is no module {error.name}, which --network {name} names",
                    f"{install(top)}, or start it in the folder where {top} lies",
                ) from error
            raise failed(error, name.source, code) from error
        maker = _maker(name, module, "")
        sources = _Sources(module, maker, folder)
        sources.sha256()  # refuses files that are no longer those that were imported
        neighbours.update(sources.imports())  # which forward() may do later
        built = build(maker, f"{name.class_name} of {name.source}", arguments, code)
    return OwnNetwork(str(name), built, code, sources.sha256)


def _find(top: str, code: UserCode) -> str:
    """The folder of the user's code that the package or module ``top`` is, or lies in."""
    if top in sys.modules:
        spec = sys.modules[top].__spec__
    else:
        spec = importlib.util.find_spec(top)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
    if spec is None:
        return ""
    if spec.submodule_search_locations:
        code.folders.extend(map(os.path.abspath, spec.submodule_search_locations))
    elif spec.has_location and spec.origin:
        code.shown[spec.origin] = relative(spec.origin)
        if not is_installed_file(spec.origin):
            code.folders.append(os.path.dirname(spec.origin))
        return os.path.dirname(spec.origin)
    return code.folders[0] if code.folders else ""


def _maker(name: NetworkName, module: ModuleType, made_by: str) -> Callable[..., Any]:
    """The class or function that ``name`` names. Raises CheckpointError."""
    import torch

    found: Any = module
    for part in name.class_name.split("."):
        try:
            inside = found
            found = getattr(found, part)
        except AttributeError:
            raise _not_found(name, _public(inside), ()) from None
    if isinstance(found, torch.nn.Module) or not callable(found):
        raise _no_class(name, made_by, type(found).__name__)
    return found  # type: ignore[no-any-return]


def _public(holder: object) -> list[str]:
    names = (name for name in vars(holder) if not name.startswith("_"))
    return [name for name in names if callable(getattr(holder, name, None))]


def _no_class(name: NetworkName, made_by: str, kind: str = "") -> CheckpointError:
    what = f"an object of type {kind}, and " if kind else ""
    return CheckpointError(
        f"{name.class_name} in {name.source} is {what}no class or function",
        f"name the class that makes it: {made_by}" if made_by else "name a class or a function",
    )


def _not_found(name: NetworkName, there: Iterable[str], unparsed: Iterable[str]) -> CheckpointError:
    """That there is no such class; what is there, the nearest names first."""
    wanted = name.class_name.rpartition(".")[2]

    def distance(other: str) -> float:
        return -difflib.SequenceMatcher(None, wanted.lower(), other.lower()).ratio()

    names = sorted(there, key=distance)
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    has = f"it has {', '.join(names[:_MAX_NAMED])}{more}" if names else "it has none"
    cells = ", ".join(unparsed)
    looked = f"; what is no Python was not looked at: {cells}" if cells else ""
    return CheckpointError(
        f"{name.source} defines no class or function {name.class_name} at its top level, but "
        f"{has}{looked}",
        f"name one that is there, as {name.source}:{names[0]}" if names else "name another file",
    )


def _mixed(digest: bytes, others: Mapping[str, bytes]) -> str:
    if not others:
        return digest.hex()
    mixed = hashlib.sha256(digest)
    for name in sorted(others):
        mixed.update(name.encode(errors="surrogateescape") + b"\0" + others[name])
    return mixed.hexdigest()


class _Sources:
    """The source of ``module``, and of that which defines ``maker``.

    If they are not installed but the user's own, also of all in ``folder`` that they import.
    """

    def __init__(self, module: ModuleType, maker: object, folder: str) -> None:
        self._named = [module.__name__, str(getattr(maker, "__module__", ""))]
        self._folder = folder
        self._known: dict[str, tuple[bytes, list[str]]] = {}  # digests, and what they import

    def sha256(self) -> str:
        """The digest of those that are imported now, empty if there are none.

        Raises CheckpointError if a file is no longer what it was when this process first asked.
        """
        waiting, digests = list(self._named), dict[str, bytes]()
        while waiting:
            name = waiting.pop()
            if name in digests or not (name in self._known or self._read(name)):
                continue
            digests[name], imported = self._known[name]
            waiting += imported
        own_digest = digests.pop(self._named[0], None)
        return _mixed(own_digest, digests) if own_digest is not None else ""

    def imports(self) -> set[str]:
        """The packages and modules, by their first names, that these may import anywhere."""
        imported = (name for _digest, names in self._known.values() for name in names)
        return {name.partition(".")[0] for name in imported}

    def _read(self, name: str) -> bool:
        """Whether a module has a source that counts; it is known then."""
        path = getattr(sys.modules.get(name), "__file__", None) or ""
        own = path.startswith(self._folder + os.sep) and not is_installed_file(path)
        if not path.endswith(SCRIPT) or not (own or name in self._named):
            return False
        try:
            data = Path(path).read_bytes()
        except OSError:  # from an archive, for example
            return False
        module = sys.modules[name]
        digest = _unchanged(module, hashlib.sha256(data).digest())
        imported = [name.rpartition(".")[0], *_imported(data, module)] if own else []
        self._known[name] = digest, imported
        return True


def _unchanged(module: ModuleType, digest: bytes) -> bytes:
    """The digest of a module's file. Raises CheckpointError if what runs may be another."""
    spec = getattr(module, "__spec__", None)
    known = _LOADED.get(module)
    if known is None or known[0] is not spec:  # another one after importlib.reload
        _LOADED[module] = (spec, digest)
    elif known[1] != digest:
        raise CheckpointError(
            f"{module.__name__} has changed since this process imported it", "restart Python"
        )
    return digest


def _imported(data: bytes, module: ModuleType) -> list[str]:
    """The names of modules that a source may import."""
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(data)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.__package__ or ""
            try:
                origin = importlib.util.resolve_name(
                    "." * node.level + (node.module or ""), package
                )
            except ImportError:  # above the top
                continue
            found += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return found
