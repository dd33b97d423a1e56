"""The version of this package, in one place, and of those that its results depend on."""

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Of what predictions and weights depend on, by package."""
    # Imported here: the version alone is asked for where nothing else is loaded.
    import cv2
    import numpy
    import PIL
    import torch

    return {
        "batchdigit": __version__,
        "torch": str(torch.__version__),
        "pillow": PIL.__version__,
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
    }
