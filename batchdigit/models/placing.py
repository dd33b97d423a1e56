"""From an image of any size to the size that a network takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchdigit.models.spec import InputSpec


def placed(image: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """An image uint8[H, W] or uint8[H, W, 3] with the height and width that ``spec`` declares.

    It is resized as torchvision's ``Resize`` does with an image of Pillow's, by an antialiased
    bilinear filter; or it gets a black margin, as by ``Pad``, if that is declared and it fits.
    """
    height, width = spec.plane
    rows, columns = height - image.shape[0], width - image.shape[1]
    if not rows and not columns:
        return image
    if spec.place == "pad" and min(rows, columns) >= 0:
        margins: Any = [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)]
        return np.pad(image, margins + [(0, 0)] * (image.ndim - 2))
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def placed_all(images_B1HW: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """The same for many grey images, uint8[B, 1, H, W]."""
    if images_B1HW.shape[2:] == spec.plane:
        return images_B1HW
    return np.stack([placed(image, spec) for image in images_B1HW[:, 0]])[:, None]
