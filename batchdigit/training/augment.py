"""Random transformations of the images that training sees."""

from __future__ import annotations

from collections.abc import Callable

import torch

Transform = Callable[[torch.Tensor], torch.Tensor]


def augmentation() -> Transform:
    """Random small rotations, shifts, scalings, shears and elastic distortions of uint8 images.

    The ranges keep nearly every digit inside its 28x28 frame, and its class beyond doubt. The
    elastic distortion is that of Simard, Steinkraus and Platt, "Best Practices for Convolutional
    Neural Networks" (2003), with a displacement of about 0.7 pixels (root mean square).
    """
    # Imported here: only training needs torchvision, and it takes seconds.
    from torchvision.transforms import v2

    transform: Transform = v2.Compose(
        [
            v2.RandomAffine(
                degrees=12,
                translate=(0.08, 0.08),
                scale=(0.88, 1.12),
                shear=(-8, 8, -8, 8),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.RandomApply([v2.ElasticTransform(alpha=36.0, sigma=4.0)], p=0.7),
        ]
    )
    return transform
