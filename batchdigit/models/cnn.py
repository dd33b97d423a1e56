"""The convolutional network whose weights a ``CNN.pt`` holds."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from batchdigit.models.network import side_of_features
from batchdigit.models.spec import MNIST, InputSpec


class CNN(nn.Module):
    """Four 3x3 convolutions and three linear layers.

    It takes the images that ``spec`` describes and has ``classes`` outputs, by default as many as
    ``spec`` says. The layer names and their order are the file format: the keys of a saved state
    dict run from ``layer1.0.weight`` to ``fc.4.bias``, so they must never change.

    B batch, C channels, H height, W width, K classes.
    """

    def __init__(self, classes: int | None = None, *, spec: InputSpec = MNIST) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(*_convolution(spec.channels, 16))
        self.layer2 = nn.Sequential(*_convolution(16, 32), nn.MaxPool2d(2, 2))
        self.layer3 = nn.Sequential(*_convolution(32, 64))
        self.layer4 = nn.Sequential(*_convolution(64, 128), nn.MaxPool2d(2, 2))
        self.fc = nn.Sequential(
            nn.Linear(128 * side_of_features(spec) ** 2, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, spec.classes if classes is None else classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits float[B, K] of images float[B, C, H, W], for digits 0 black to 1 white strokes."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        logits: torch.Tensor = self.fc(features.flatten(1))
        return logits


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    ]


def fold_batchnorm(model: CNN) -> CNN:
    """Fold each BatchNorm's fixed affine map into the convolution before it, in place.

    For inference only: the model must be in ``eval()`` mode. The arithmetic is that of
    ``torch.nn.utils.fusion``: W' = W·γ/√(σ²+ε), b' = (b-μ)·γ/√(σ²+ε) + β.
    """
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        convolution, batchnorm = layer[0], layer[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(batchnorm, nn.BatchNorm2d):
            layer[0] = fuse_conv_bn_eval(convolution, batchnorm)
            layer[1] = nn.Identity()
    return model
