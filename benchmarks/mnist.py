"""MNIST's test images as a folder of PNG files."""

import sys
from pathlib import Path


def write_test_images(data: Path, folder: Path, *, download: bool = False) -> list[Path]:
    """Write the 10,000 images to ``folder`` as ``N-label-L.png``; return their paths."""
    from torchvision.datasets import MNIST

    try:
        images = MNIST(data, train=False, download=download)
    except RuntimeError:
        sys.exit(f"{data} does not hold MNIST (MNIST/raw/); --download lets torchvision fetch it")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (image, label) in enumerate(images):
        paths.append(folder / f"{number}-label-{label}.png")
        image.save(paths[-1])
    return paths
