"""What ``--network`` names: a class, or a function, in a file or in a module."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from batchdigit.errors import CheckpointError, UsageError
from batchdigit.networks.definitions import Definitions
from batchdigit.networks.sourcefile import NOTEBOOK, SCRIPT, read_source
from batchdigit.system.paths import path_text

_FORMS = "write FILE.py:CLASS, FILE.ipynb:CLASS or package.module:CLASS"


@dataclass(frozen=True)
class NetworkName:
    """``source`` is ``net.py``, ``a/nb.ipynb`` or ``package.module``; ``class_name`` may be dotted.

    ``str`` gives it as it was written.
    """

    source: str
    class_name: str

    @classmethod
    def parse(cls, text: object) -> NetworkName:
        """The name that ``text`` says. Raises UsageError."""
        given = path_text("--network", text)
        source, colon, class_name = given.rpartition(":")
        if not colon:
            source, class_name = given, ""
        if _is_file(source) and not class_name:
            raise UsageError(f"--network {given} names no class", _suggestion(source))
        if not source or not class_name:
            raise UsageError(f"--network {given} does not name a class of a file or module", _FORMS)
        if not _is_dotted(class_name):
            raise UsageError(f"--network {given}: {class_name} is no name of a class", _FORMS)
        if not _is_file(source) and not _is_dotted(source):
            raise UsageError(
                f"--network {given}: {source} is neither a {SCRIPT} or {NOTEBOOK} file nor the "
                "name of a module",
                _FORMS,
            )
        return cls(source, class_name)

    @property
    def is_file(self) -> bool:
        """Whether the source is a script or a notebook, and not a module that is imported whole."""
        return _is_file(self.source)

    def absolute(self) -> NetworkName:
        """The same from any working folder."""
        return replace(self, source=str(Path(self.source).absolute())) if self.is_file else self

    def __str__(self) -> str:
        return f"{self.source}:{self.class_name}"


def told_apart(network: str, arguments: object, digest: str) -> dict[str, str]:
    """What tells this network from others that take the same weights, by option: JSON data.

    ``digest`` is that of its code, or empty. One file may define several classes, and one class may
    compute differently with other arguments.
    """
    name = NetworkName.parse(network)
    return {
        "--network": f"{digest or name.source}:{name.class_name}",
        "--network-args": json.dumps(arguments, sort_keys=True, default=repr),
    }


def _is_file(source: str) -> bool:
    return source.lower().endswith((SCRIPT, NOTEBOOK))


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _suggestion(source: str) -> str:
    """The classes that the file has, if it is there and has any."""
    try:
        networks = Definitions.of(read_source(Path(source), source)).networks()
    except CheckpointError:
        networks = []
    if not networks:
        return f"write {source}:CLASS"
    return f"{source} defines {', '.join(networks[:9])}; write {source}:{networks[0]}"
