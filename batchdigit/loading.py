"""Importing PyTorch, which takes a second and may fail in many ways."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from batchdigit.errors import BatchdigitError


@contextlib.contextmanager
def loading_torch() -> Iterator[None]:
    """Around the import of what needs PyTorch. Raises BatchdigitError where that fails."""
    collecting = gc.isenabled()
    gc.disable()  # it would look for garbage dozens of times, and there is none: 0.1 s
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        raise BatchdigitError(
            f"cannot load PyTorch: {error}", "see that it is installed and that memory suffices"
        ) from error
    finally:
        if collecting:
            gc.enable()
