"""Errors of the user's code in one line: what was raised, in which line of which file of his."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from batchdigit.errors import BatchdigitError, one_line

EVERYTHING = "*"  # among names that are absent: what ``from x import *`` would have bound
_SEE = "correct it there"
_IMPORTS = ("batchdigit.networks.running", "contextlib")  # between his code and what it imports
# Packages that are installed by other names than they are imported by.
_INSTALLED_AS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "pytorch_lightning": "pytorch-lightning",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


@dataclass(frozen=True)
class Explanation:
    """A problem of the user's code and its remedy, as for a BatchdigitError."""

    problem: str
    remedy: str


class AbsentNameError(AttributeError):
    """Code asked a module of the user's for a name that was left out, or that failed."""

    def __init__(self, explanation: Explanation) -> None:
        super().__init__(explanation.problem)
        self.explanation = explanation


@dataclass(eq=False)
class UserCode:
    """What is known of the user's files that were run.

    ``shown`` has what the user calls each, by its name in tracebacks; files below ``folders`` are
    his, too. ``absent`` says, for each module, why names are not there. ``digests`` has the SHA-256
    of the files that were imported from his folder, by their names relative to it. ``builtins`` are
    those of his files, if they are not Python's own.
    """

    shown: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    absent: dict[str, dict[str, Explanation]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    builtins: dict[str, Any] = field(default_factory=dict, repr=False)

    def explain(self, error: BaseException) -> Explanation | None:
        """What ``error`` says about the user's code; None if none of that had a part in it."""
        for cause in _chain(error):
            if isinstance(cause, AbsentNameError):
                return cause.explanation
            if isinstance(cause, BatchdigitError):
                return Explanation(cause.problem, cause.remedy)
        if isinstance(error, SyntaxError) and error.filename and self._name(error.filename):
            where = f"{self._name(error.filename)}, line {error.lineno}"
            return Explanation(f"{where}, is not Python: {error.msg}", _SEE)
        everywhere = [
            step
            for step in traceback.walk_tb(error.__traceback__)
            if step[0].f_globals.get("__name__") not in _IMPORTS
        ]
        frames = [step for step in everywhere if self._name(step[0].f_code.co_filename)]
        if not frames:
            return None
        frame, line = frames[-1]
        where = f"{self._name(frame.f_code.co_filename)}, line {line}"
        if isinstance(error, ModuleNotFoundError) and error.name:
            return _missing(error.name, where, itself=frame is everywhere[-1][0])
        absent = self._why_absent(frame, str(error.name)) if type(error) is NameError else None
        does = (
            "would end the program"
            if isinstance(error, SystemExit)
            else f"raises {described(error)}"
        )
        return absent or Explanation(f"{where}, {does}", _SEE)

    def _why_absent(self, frame: FrameType, name: str) -> Explanation | None:
        own = self.absent.get(str(frame.f_globals.get("__name__")), {})
        # The names of another module may have come with all others of it.
        for names in (own, *self.absent.values()):
            if name in names:
                return names[name]
        return own.get(EVERYTHING)

    def _name(self, place: str) -> str:
        """What the user calls a file of his; empty for any other file."""
        if place in self.shown:
            return self.shown[place]
        for folder in self.folders:
            if place.startswith(folder + os.sep) and not is_installed_file(place[len(folder) :]):
                return relative(place)
        return ""


def relative(path: str) -> str:
    """A path as seen from the working folder, if it is below that."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def is_installed_file(path: str) -> bool:
    """Whether a file lies where packages are installed."""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts)


def described(error: BaseException) -> str:
    """The type and the message of an error, in one line."""
    try:
        message = one_line(str(error))
    except Exception:  # noqa: BLE001  (an error of the user's may fail to say what it is)
        message = ""
    kind = type(error).__name__
    return f"{kind}: {message}" if message else kind


def install(package: str) -> str:
    """How to install what provides the module ``package``."""
    return f"pip install {_INSTALLED_AS.get(package, package)} in the environment of batchdigit"


def _missing(name: str, where: str, *, itself: bool) -> Explanation:
    """That a module is not there; ``itself`` if it is the user's code that imports it."""
    package = name.partition(".")[0]
    if package in sys.modules:
        return Explanation(
            f"{where}, needs {name}, which {package} does not have",
            f"install the version of {package} that the network was written for",
        )
    remedy = install(package)
    if itself and package not in _INSTALLED_AS:  # a stranger's package of that name may do harm
        remedy = (
            f"if it is your own, put it beside the file or its folder on PYTHONPATH; else {remedy}"
        )
    return Explanation(f"{where}, needs the package {package}, which is not installed", remedy)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from, once each."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
