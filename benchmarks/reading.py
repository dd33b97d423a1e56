"""Reading and decoding alone, on one core: batchdigit and torchvision's ImageFolder.

    python -m benchmarks.reading [--data DIR [--download]] [--images N] [--rounds N]

Compares ImageFolder with Grayscale and ToTensor, image by image, with the work of one of
batchdigit's worker processes, in batches of 256. Both produce floats from 0 to 1, in one process
and one thread, with the files in the page cache. Runs are interleaved, and medians are printed.
The images are MNIST's test images with --data, and the repeated sample images without.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Grayscale, ToTensor

from batchdigit.reading.dataset import DigitImages
from batchdigit.sources.folder import open_folders
from benchmarks.images import add_options, make_images
from benchmarks.machine import in_words, machine

BATCH_SIZE = 256


def image_folder(root: Path) -> None:
    for _ in ImageFolder(root, transform=Compose([Grayscale(), ToTensor()])):
        pass


def batchdigit(root: Path) -> None:
    files = open_folders([root])
    dataset = DigitImages(files)
    for start in range(0, len(files), BATCH_SIZE):
        batch = dataset.__getitems__(range(start, min(len(files), start + BATCH_SIZE)))
        torch.from_numpy(batch.images).float().div_(255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    readers: dict[str, Callable[[Path], None]] = {
        "ImageFolder": image_folder,
        "batchdigit": batchdigit,
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        count = len(make_images(arguments, root / "all"))  # a class folder, which ImageFolder needs
        for _ in range(arguments.rounds):
            for name, read in readers.items():
                start = time.perf_counter()
                read(root)
                rates[name].append(count / (time.perf_counter() - start))
    print(f"{count} images, {arguments.rounds} interleaved rounds, one core")
    print(in_words(machine()))
    base = statistics.median(rates["ImageFolder"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(
            f"{name:12} {median:7,.0f} images/s ({min(values):,.0f} to {max(values):,.0f}), "
            f"{median / base:.2f} times ImageFolder"
        )


if __name__ == "__main__":
    main()
