"""What a network takes and what it gives, declared in one place.

The numbers of the packaged network (28, 255 and 10) are written here and nowhere else. Importing
this module must stay cheap: it needs neither numpy nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex, TypedDict

from batchdigit.modelfiles.declaration import DARK_ON_LIGHT, GIVEN_AS, LIGHT_ON_DARK, Declaration

if TYPE_CHECKING:
    from typing_extensions import Unpack

    class _Given(TypedDict, total=False):
        size: SupportsIndex | tuple[SupportsIndex, SupportsIndex] | str
        channels: SupportsIndex
        range: str
        mean: SupportsFloat | Sequence[SupportsFloat]
        std: SupportsFloat | Sequence[SupportsFloat]
        expects: str
        layout: str
        transpose: bool
        place: str
        scores: str
        classes: int


WHITE = 255  # of a uint8 pixel


@dataclass(frozen=True)
class InputSpec:
    """The images that a network takes, and how many classes it tells apart.

    ``size`` is the height and the width of an image in pixels; a single number means a square.
    ``channels`` is 1 or 3. The readers give uint8 pixels, light strokes on a dark ground, of one
    channel or of as many as the network has. In this order they become what the network takes:

    - a digit of 28x28 pixels is brought to another ``size`` before: resized as torchvision's
      ``Resize`` does (``place`` is ``resize``), or with a dark margin (``pad``);
    - a pixel p becomes 255 - p if the network ``expects`` ``dark-on-light``;
    - it is divided by 255 if the ``range`` is ``0-1``, and stays as it is if that is ``0-255``;
    - ``mean`` is subtracted, and the result divided by ``std``, a number for each channel or one
      for all;
    - rows and columns change places with ``transpose``, as they do in EMNIST's raw files;
    - the array gets the ``layout`` ``nchw`` float32[B, C, H, W], ``nhwc`` [B, H, W, C], ``nhw``
      [B, H, W] or ``flat`` [B, C*H*W].

    ``scores`` says what the network gives: ``logits``, ``probabilities``, ``log-probabilities``, or
    ``auto`` for what its answers to known digits look like. ``classes`` is their number (K).

    Raises UsageError for values that no network has.
    """

    size: tuple[int, int] = (28, 28)
    channels: int = 1
    range: str = "0-1"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    expects: str = LIGHT_ON_DARK
    layout: str = "nchw"
    transpose: bool = False
    place: str = "resize"
    scores: str = "auto"
    classes: int = 10

    if TYPE_CHECKING:  # fields accept more than they store

        def __init__(self, **given: Unpack[_Given]) -> None: ...

    def __post_init__(self) -> None:
        declared = {name: getattr(self, name) for name in GIVEN_AS}
        checked = Declaration.of(declared, lambda name: name)
        for name, value in checked.given().items():
            object.__setattr__(self, name, value)  # the instance is frozen
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            object.__setattr__(self, name, numbers * (self.channels // len(numbers)))

    @classmethod
    def declared(cls, declaration: Declaration, classes: int = 10) -> InputSpec:
        """What a declaration says; where it says nothing, that of the packaged network.

        A mean of three numbers says how many channels there are.
        """
        given = declaration.given()
        given.setdefault("channels", len(given.get("mean", "1")))
        return cls(**given, classes=classes)

    @property
    def declaration(self) -> Declaration:
        """The same as a declaration, which knows no classes."""
        return Declaration(**{name: getattr(self, name) for name in GIVEN_AS})

    @property
    def scale(self) -> float:
        """What a uint8 pixel is divided by."""
        return float(WHITE) if self.range == "0-1" else 1.0

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation for each channel by which pixels from 0 to 1 become the same.

        The range, the mean, the deviation and the polarity in two numbers: (x - mean) / std.
        """
        white = WHITE / self.scale  # p = white * x, or white * (1 - x)
        if self.expects == DARK_ON_LIGHT:
            mean = tuple(1 - number / white for number in self.mean)
            return mean, tuple(-number / white for number in self.std)
        return tuple(m / white for m in self.mean), tuple(s / white for s in self.std)

    @property
    def plane(self) -> tuple[int, int]:
        """(H, W) of one channel as readers give it."""
        height, width = self.size
        return (width, height) if self.transpose else (height, width)

    @property
    def pixels(self) -> int:
        """The number of pixels in one channel."""
        return self.size[0] * self.size[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image as readers give it, if they give all channels."""
        return self.channels, *self.plane

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """The shape of one image as the network takes it, in the order of ``layout``."""
        height, width = self.size
        return {
            "nchw": (self.channels, height, width),
            "nhwc": (height, width, self.channels),
            "nhw": (height, width),
            "flat": (self.channels * self.pixels,),
        }[self.layout]

    def with_classes(self, classes: int) -> InputSpec:
        """The same input for a network with ``classes`` outputs."""
        return replace(self, classes=classes)

    @property
    def inverted(self) -> InputSpec:
        """The same for images of the other polarity."""
        other = LIGHT_ON_DARK if self.expects == DARK_ON_LIGHT else DARK_ON_LIGHT
        return replace(self, expects=other)

    @property
    def text(self) -> str:
        """All of it in one line, which tells it from others."""
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))

    def prepare(self, pixels_BCHW: Any) -> Any:
        """What the network takes.

        ``pixels_BCHW`` is a numpy array or a torch tensor of floating-point numbers [B, C, H, W]
        that hold the values of uint8 pixels, with one channel or all; its memory is used.
        """
        if pixels_BCHW.shape[1] != self.channels:
            pixels_BCHW = pixels_BCHW[:, [0] * self.channels]
        self.scale_pixels(pixels_BCHW)
        if self.transpose:
            pixels_BCHW = pixels_BCHW.swapaxes(2, 3)
        if self.layout == "nhwc":
            return pixels_BCHW.swapaxes(1, 2).swapaxes(2, 3)
        if self.layout == "nhw":
            return pixels_BCHW[:, 0]
        if self.layout == "flat":
            return pixels_BCHW.reshape(len(pixels_BCHW), *self.prepared_shape)
        return pixels_BCHW

    def scale_pixels(self, pixels_BCHW: Any) -> None:
        """The arithmetic of :meth:`prepare`, in place, on as many channels as the network has."""
        if self.expects == DARK_ON_LIGHT:
            pixels_BCHW *= -1
            pixels_BCHW += WHITE
        if self.scale != 1:
            pixels_BCHW /= self.scale
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            if (mean, std) != (0.0, 1.0):
                pixels_BCHW[:, channel] -= mean
                pixels_BCHW[:, channel] /= std


MNIST = InputSpec(scores="logits")
"""What the packaged network takes: white strokes on black, as 0 to 1, of ten digits."""
