"""Importing large packages, which takes time and may fail in many ways."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
from collections.abc import Iterator

from batchdigit.errors import BatchdigitError

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def loading(what: str, packages: str) -> Iterator[None]:
    """Around imports. Raises BatchdigitError where one fails: cannot load ``what``."""
    collecting = gc.isenabled()
    gc.disable()  # PyTorch's import would look for garbage for 0.1 s, and there is none
    try:
        with _without_blas_threads() if "numpy" in packages else contextlib.nullcontext():
            yield
    except (ImportError, OSError, RuntimeError) as error:
        raise BatchdigitError(
            f"cannot load {what}: {error}",
            f"pip install {packages}, and see that memory suffices",
        ) from error
    finally:
        if collecting:
            gc.enable()


def is_installed(package: str) -> bool:
    """Whether a package is there; it may be damaged all the same."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # somebody has put something else in its place
        return False


@contextlib.contextmanager
def _without_blas_threads() -> Iterator[None]:
    """Let OpenBLAS, of which numpy and OpenCV each have one, start no threads when it is loaded.

    Nothing here gives them work, and waiting for it in a loop takes 0.1 s of each other core.
    PyTorch may have an OpenBLAS too, which needs its threads: so this is no setting for good.
    """
    if _BLAS_THREADS in os.environ:  # somebody knows better
        yield
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_BLAS_THREADS]
