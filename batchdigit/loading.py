"""Importing large packages, which takes time and may fail in many ways."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
from collections.abc import Iterator

from batchdigit.errors import BatchdigitError


@contextlib.contextmanager
def loading(what: str, packages: str) -> Iterator[None]:
    """Around imports. Raises BatchdigitError where one fails: cannot load ``what``."""
    collecting = gc.isenabled()
    gc.disable()  # PyTorch's import would look for garbage for 0.1 s, and there is none
    try:
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
