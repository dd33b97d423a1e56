"""What a network takes and what it gives, declared in one place.

The numbers of the packaged network (28, 255 and 10) are written here and nowhere else. Importing
this module must stay cheap: it needs neither numpy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from batchdigit.modelfiles.normalisation import inverted


@dataclass(frozen=True)
class InputSpec:
    """The images that a network takes, and how many classes it tells apart.

    ``size`` is the height and the width of an image in pixels, ``channels`` their number (C).
    A uint8 pixel is divided by ``scale``; then ``mean`` is subtracted and the result divided by
    ``std``, each a number per channel. ``classes`` is the number of outputs (K).

    Raises ValueError for a mean or a standard deviation of another length than ``channels``.
    """

    size: int
    channels: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need a number for each of {self.channels} channels")

    @property
    def plane(self) -> tuple[int, int]:
        """(H, W) of one channel."""
        return self.size, self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, *self.plane

    def with_classes(self, classes: int) -> InputSpec:
        """The same input for a network with ``classes`` outputs."""
        return replace(self, classes=classes)

    def normalised(self, mean: float | None, std: float | None) -> InputSpec:
        """The same with another mean and deviation for every channel; None leaves both as is."""
        if mean is None or std is None:
            return self
        return replace(self, mean=(mean,) * self.channels, std=(std,) * self.channels)

    @property
    def inverted(self) -> InputSpec:
        """The same for images of the other polarity: a pixel p counts as ``scale`` - p."""
        pairs = zip(self.mean, self.std, strict=True)
        mean, std = zip(*(inverted(mean, std) for mean, std in pairs), strict=True)
        return replace(self, mean=mean, std=std)

    def scale_pixels(self, pixels_BCHW: Any) -> None:
        """Turn pixels into what the network takes, in place.

        ``pixels_BCHW`` is a numpy array or a torch tensor of floating-point numbers [B, C, H, W]
        that hold the values of uint8 pixels.
        """
        pixels_BCHW /= self.scale
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            if (mean, std) != (0.0, 1.0):
                pixels_BCHW[:, channel] -= mean
                pixels_BCHW[:, channel] /= std


MNIST = InputSpec(size=28, channels=1, scale=255, mean=(0.0,), std=(1.0,), classes=10)
"""What the packaged network takes: white strokes on black, as 0 to 1, of ten digits."""
