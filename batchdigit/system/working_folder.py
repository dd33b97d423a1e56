"""The working folder may be anybody's, so nothing that lies in it runs.

Python looks for modules in the working folder when it is started with ``-c`` or ``-m``, and
multiprocessing starts it with ``-c``. The system looks for libraries there if the path that it
searches has an empty item, as a library of PyTorch's has in its own file, and as OpenCV leaves in
``LD_LIBRARY_PATH`` for every process that is started after it was imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from batchdigit.system.shared_setting import SharedSetting

OURS = Path(__file__).parents[1]
_SAFE_PATH = "-P" if sys.version_info >= (3, 11) else "-I"
_LIBRARY_PATH = "LD_LIBRARY_PATH"
_children_stay_out = False


def python(module: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs a module of this installation, and none of the working folder."""
    if sys.version_info >= (3, 11):
        return [sys.executable, _SAFE_PATH, "-m", module, *arguments]
    # Alone, -I would also hide packages that the user has installed for himself.
    path = [folder for folder in sys.path if folder]
    run = f"import runpy, sys; sys.path = {path!r}; runpy.run_module({module!r}, None, '__main__')"
    return [sys.executable, _SAFE_PATH, "-c", run, *arguments]


def flags_of_children() -> list[str]:
    """The flags of this Python for one that it starts, which finds no module where we are."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    return [*_args_from_interpreter_flags(), _SAFE_PATH]


def _read_flags() -> Callable[[], list[str]]:
    from multiprocessing import util  # all of it is imported where processes are started

    flags: Callable[[], list[str]] = util._args_from_interpreter_flags  # type: ignore[attr-defined]
    return flags


def _write_flags(flags: Callable[[], list[str]]) -> None:
    from multiprocessing import util

    util._args_from_interpreter_flags = flags  # type: ignore[attr-defined]


# multiprocessing starts Python with these flags: what it spawns, and the resource tracker.
# (PYTHONSAFEPATH in the environment would do the same, but not with -E, and not in Python 3.10.)
_flags_that_are_passed = SharedSetting(_read_flags, _write_flags, flags_of_children)


@contextlib.contextmanager
def starting_elsewhere() -> Iterator[None]:
    """Start processes inside the block: neither modules nor libraries come from where we are."""
    with _flags_that_are_passed, _library_path_without_gaps(), _children_in_our_folder():
        yield


@contextlib.contextmanager
def _library_path_without_gaps() -> Iterator[None]:
    with unchanged_library_path():
        folders = list(filter(os.path.isabs, os.environ.pop(_LIBRARY_PATH, "").split(":")))
        if folders:
            os.environ[_LIBRARY_PATH] = ":".join(folders)
        yield


@contextlib.contextmanager
def _children_in_our_folder() -> Iterator[None]:
    if not _children_stay_out:
        yield
        return
    from multiprocessing import spawn

    prepare = spawn.get_preparation_data
    spawn.get_preparation_data = lambda name: prepare(name) | {"dir": str(OURS)}
    try:
        yield
    finally:
        spawn.get_preparation_data = prepare


@contextlib.contextmanager
def unchanged_library_path() -> Iterator[None]:
    """Put back what the block makes of the path on which other processes look for libraries."""
    before = os.environ.get(_LIBRARY_PATH)
    try:
        yield
    finally:
        if before is not None:
            os.environ[_LIBRARY_PATH] = before
        else:
            os.environ.pop(_LIBRARY_PATH, None)


@contextlib.contextmanager
def importing_elsewhere() -> Iterator[None]:
    """Be in a folder of our own while the block imports packages, whose libraries load others.

    The working folder belongs to the whole process, so nobody moves beside other threads, nor where
    the user has told Python to look for modules in the working folder anyway.
    """
    stay = threading.active_count() > 1 or not all(map(os.path.isabs, sys.path))
    with unchanged_library_path(), contextlib.nullcontext() if stay else _in_our_folder():
        yield


@contextlib.contextmanager
def _in_our_folder() -> Iterator[None]:
    try:
        here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    except OSError:  # on Windows; and what this user may not enter, its loader cannot search
        yield
        return
    try:
        os.chdir(OURS)
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def keep_children_out_of_it() -> None:
    """Let the spawned processes of this program stay in a folder of our own.

    It is not for the programs of others, whose modules a spawned process imports, too.
    """
    global _children_stay_out  # noqa: PLW0603
    _children_stay_out = True
