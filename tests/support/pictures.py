"""Pictures of digits, and what the packaged model reads in them."""

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from batchdigit.images.decode import decode_image, strict_pillow
from batchdigit.images.preprocess import ENOUGH_PIXELS
from batchdigit.job import PACKAGED_WEIGHTS
from batchdigit.models.checkpoint import load_checkpoint

Pixels = NDArray[np.uint8]


def mnist_digits() -> Pixels:
    """MNIST digits uint8[1000, 28, 28]: a 0, a 1, ... a 9, a 0, ..."""
    sheet = np.asarray(Image.open(PACKAGED_WEIGHTS.with_name("digits.png")))
    return sheet.reshape(25, 28, 40, 28).swapaxes(1, 2).reshape(1000, 28, 28)


def labels(images: list[Pixels]) -> NDArray[np.int64]:
    model = load_checkpoint(PACKAGED_WEIGHTS).model
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(images))[:, None].float() / 255
        return torch.cat([model(part).argmax(1) for part in pixels.split(250)]).numpy()


def through_a_file(image: Image.Image, form: str = "PNG", **options: object) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    with strict_pillow():
        return decode_image(buffer.getvalue(), enough=ENOUGH_PIXELS)


def ink_on_paper(digit: Pixels, ink: float, paper: float) -> Pixels:
    return np.rint(paper + (ink - paper) * (digit / 255.0)).astype(np.uint8)
