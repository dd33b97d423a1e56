"""What batchdigit's options say of an input, computed by what is documented of them alone."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tests.strangers.catalogue import Stranger


def declaration(stranger: Stranger) -> dict[str, Any]:
    """What is declared of a stranger's input, by the names that a model.toml has for it."""
    if stranger.model_toml is not None:
        return stranger.model_toml["input"]
    return from_flags(stranger.flags or {})


def from_flags(flags: dict[str, str]) -> dict[str, Any]:
    declared: dict[str, Any] = {}
    for option, text in flags.items():
        name = option.removeprefix("--").removeprefix("input-")
        if name == "size":
            sides = [int(side) for side in text.split("x")]
            declared[name] = [sides[0], sides[-1]]
        elif name in ("mean", "std"):
            declared[name] = [float(number) for number in text.split(",")]
        elif name == "channels":
            declared[name] = int(text)
        else:
            declared[name] = text or True
    return declared


def from_words(words: Iterable[str]) -> dict[str, Any]:
    """The same from the words of a command line."""
    flags: dict[str, str] = {}
    for word in words:
        if word.startswith("--"):
            option, _, value = word.partition("=")
            flags[option] = value
        else:
            flags[option] = word
    return from_flags(flags)


def network_input(declared: dict[str, Any], images_BHW: NDArray[np.uint8]) -> Tensor:
    """What a network of which this is declared takes, from images uint8[B, 28, 28]."""
    pixels = np.stack([_placed(declared, image) for image in images_BHW])[:, None]
    if declared.get("expects") == "dark-on-light":
        pixels = 255 - pixels
    values = torch.from_numpy(pixels).double()
    if declared.get("range") != "0-255":
        values /= 255
    values = values.repeat(1, declared.get("channels", 1), 1, 1)
    mean, std = (
        torch.tensor(declared.get(name, default), dtype=torch.float64).view(-1, 1, 1)
        for name, default in (("mean", [0]), ("std", [1]))
    )
    values = ((values - mean) / std).float()
    if declared.get("transpose"):
        values = values.mT
    match declared.get("layout", "nchw"):
        case "nhwc":
            values = values.permute(0, 2, 3, 1)
        case "nhw":
            values = values[:, 0]
        case "flat":
            values = values.flatten(1)
    return values.contiguous()


def _placed(declared: dict[str, Any], image_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = declared.get("size", image_HW.shape)
    if (height, width) == image_HW.shape:
        return image_HW
    if declared.get("place") == "pad":
        above, left = (height - image_HW.shape[0]) // 2, (width - image_HW.shape[1]) // 2
        placed = np.zeros((height, width), np.uint8)
        placed[above : above + image_HW.shape[0], left : left + image_HW.shape[1]] = image_HW
        return placed
    resized = Image.fromarray(image_HW).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)
