"""Processes that begin afresh: a new Python that knows nothing of the program that starts it.

multiprocessing's own ways of beginning afresh (``spawn``, ``forkserver``) run the main module of a
program again in each process, so that every program would need ``if __name__ == "__main__":``.
They are also closed to its daemonic processes, such as the workers of a ``multiprocessing.Pool``
or of Celery. Neither holds here. POSIX only.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

from batchdigit.system.working_folder import OURS, flags_of_children

_BEGIN = "import sys; sys.path[:] = {path}; import {module}; {module}.begin({descriptor})"
_FOR_ONE_CORE = {"OPENBLAS_NUM_THREADS": "1"}  # see batchdigit.system.imports


def is_possible() -> bool:
    """Whether this program can start a Python; one that is frozen would start itself instead."""
    from multiprocessing import spawn

    return bool(spawn.get_executable()) and not getattr(sys, "frozen", False)


class SharedMemory:
    """``size`` bytes of zeros, ``map``, that new processes share when they get it as an argument.

    It is no file of ``/dev/shm``: where that is full, writing to one is a bus error.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        if descriptor is None:
            with _unnamed_file() as file:
                file.write(bytes(size))
                file.flush()
                descriptor = os.dup(file.fileno())
        self.descriptor = descriptor
        self.map = mmap.mmap(descriptor, size)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.descriptor)


class NewProcess:
    """A new process that calls ``target(*arguments)``, as far as one of multiprocessing is used.

    The target and the arguments must be picklable, and be found in modules. Connections and
    :class:`SharedMemory` may be among them. What the process prints is discarded, and it is in a
    folder of our own. Raises OSError when it cannot be started, PicklingError for what cannot be
    sent to it.
    """

    def __init__(self, target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        # Imported here because a fork needs neither.
        import subprocess
        from multiprocessing import spawn

        with _unnamed_file() as work:
            pickler = _Pickler(work, protocol=5)
            try:
                pickler.dump((target, arguments))
            except (TypeError, AttributeError) as error:  # which pickle raises, too
                raise pickle.PicklingError(str(error)) from error
            work.seek(0)
            descriptor = work.fileno()
            code = _BEGIN.format(path=ascii(_path()), module=__name__, descriptor=descriptor)
            self._process = subprocess.Popen(  # noqa: S603  (it is Python)
                [spawn.get_executable(), *flags_of_children(), "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[descriptor, *pickler.descriptors],
                cwd=OURS,
                env=_FOR_ONE_CORE | os.environ,
            )
        self.pid = self._process.pid

    @property
    def exitcode(self) -> int | None:
        """How it ended: its exit code, or minus the number of a signal; None while it runs."""
        return self._process.poll()

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def join(self, timeout: float | None = None) -> None:
        """Wait until it ends, for ``timeout`` seconds at most."""
        from subprocess import TimeoutExpired

        with contextlib.suppress(TimeoutExpired):
            self._process.wait(timeout)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._process.kill()


def begin(descriptor: int) -> None:
    """Do the work that an open file holds. The first that a new process calls."""
    with open(descriptor, "rb") as work:
        target, arguments = _Unpickler(work).load()
    target(*arguments)


def _path() -> list[str]:
    """Where a new process looks for modules: where this one does, but for the working folder."""
    path = [os.path.abspath(folder) for folder in sys.path if folder]
    ours = str(OURS.parent)
    return path if ours in path else [*path, ours]


def _unnamed_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("batchdigit"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


class _Pickler(pickle.Pickler):
    """Notes the ``descriptors`` that the new process must be given."""

    def __init__(self, file: BinaryIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.descriptors: list[int] = []

    def reducer_override(self, thing: object) -> Any:
        if getattr(thing, "__module__", None) == "__main__":
            raise pickle.PicklingError(f"{thing!r} is of the main module, which is not imported")
        return NotImplemented

    def persistent_id(self, thing: object) -> tuple[object, ...] | None:
        if isinstance(thing, SharedMemory):
            self.descriptors.append(thing.descriptor)
            return SharedMemory, len(thing.map), thing.descriptor
        if isinstance(thing, Connection):
            self.descriptors.append(thing.fileno())
            return Connection, thing.fileno(), thing.readable, thing.writable
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, saved: Any) -> object:
        kind, *arguments = saved
        return kind(*arguments)
