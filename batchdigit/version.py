"""The version of this package, in one place, and of those that its results depend on."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"


def versions(backend: str = "torch") -> dict[str, str]:
    """Of what predictions and weights depend on, by package; ``backend`` computes."""
    # Imported here: the version alone is asked for where nothing else is loaded.
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
