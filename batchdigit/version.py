"""The version of this package, in one place, and those of the packages its results depend on."""

from __future__ import annotations

import importlib

__version__ = "0.2.0"


def versions(backend: str = "torch") -> dict[str, str]:
    """The versions of the packages that predictions and weights depend on, by name.

    ``backend`` is the package that computes, ``torch`` or ``onnxruntime``.
    """
    # Imported here, so that to ask for the version alone loads nothing else.
    import cv2
    import numpy
    import PIL

    return {
        "batchdigit": __version__,
        backend: str(importlib.import_module(backend).__version__),
        "pillow": PIL.__version__,
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
    }


def heif_version() -> str:
    """The version of pillow-heif, which decodes HEIC images; empty if it is not installed."""
    # Imported here: few runs ask.
    from importlib import metadata

    try:
        return metadata.version("pillow-heif")
    except metadata.PackageNotFoundError:
        return ""
