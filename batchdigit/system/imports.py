"""Importing large packages, which takes time and can fail in many ways."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

from batchdigit.errors import BatchdigitError, remedy_for
from batchdigit.system.working_folder import importing_elsewhere

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def loading(what: str, packages: str) -> Iterator[None]:
    """Use it around imports; nothing in the working folder can take the place of a library.

    Raises BatchdigitError (cannot load ``what``) when one of them fails. ``packages`` are the names
    to install them by, separated by spaces.
    """
    collecting = gc.isenabled()
    gc.disable()  # during PyTorch's import, the collector would look for garbage for 0.1 s in vain
    try:
        with (
            importing_elsewhere(),
            _without_blas_threads() if "numpy" in packages else contextlib.nullcontext(),
        ):
            yield
    except (ImportError, OSError, RuntimeError) as error:
        raise BatchdigitError(
            f"cannot load {what}: {error}",
            remedy_for(error, f"pip install {packages}, and see that memory suffices"),
        ) from error
    finally:
        if collecting:
            gc.enable()


def import_onnxruntime() -> Any:
    """The module ``onnxruntime``; raises whatever a damaged installation raises.

    It would tell its makers that it is used, and write an identifier of this machine below the
    user's home for that.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with importing_elsewhere():
        import onnxruntime

        return onnxruntime


def is_installed(package: str) -> bool:
    """Whether a package is there, without importing it; it may still be damaged."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # something else has been put in its place
        return False


@contextlib.contextmanager
def _without_blas_threads() -> Iterator[None]:
    """Keep OpenBLAS from starting threads when it is loaded; numpy and OpenCV each bring one.

    Nothing here gives these threads work, and while they wait for some in a loop they take 0.1 s of
    every other core. The setting is not left in place, because PyTorch may have an OpenBLAS, too,
    which needs its threads.
    """
    if _BLAS_THREADS in os.environ:  # the user knows better
        yield
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_BLAS_THREADS]
