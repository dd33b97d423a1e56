"""Whole-process time of ``batchdigit run`` against what one would write by hand.

    python -m benchmarks.throughput [--data DIR [--download]] [--images N] [--rounds N]

Rivals, with the same weights over the same PNG files:

* seed: the plain loop (Image.open, ToTensor, unsqueeze, CNN, softmax, max), image by image;
* dataloader: ImageFolder-style Dataset with ToTensor behind a DataLoader (2 workers, batches of
  256), the CNN as it is, rows by pandas.

The runs are interleaved against drift; medians, their range and ratios of medians are printed.
All must give the same classes, or the script fails. With --data, the images are MNIST's test
images; without, the sample images repeated.
"""

import argparse
import csv
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parent.parent
RIVALS = ("seed", "dataloader")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="holds MNIST/raw")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch MNIST")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = folder / "images" / "all"  # a class folder, which ImageFolder needs
        _make_images(arguments, images)
        commands = {
            "batchdigit": [sys.executable, "-m", "batchdigit", "run", images, "-q", "--out"]
        } | {rival: [sys.executable, "-m", "benchmarks.rivals", rival, images] for rival in RIVALS}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run([*command, folder / f"{name}.csv"], check=True, cwd=REPOSITORY)
                seconds[name].append(time.perf_counter() - start)
        classes = {name: _classes(folder / f"{name}.csv") for name in commands}

    count = len(classes["batchdigit"])
    print(f"{count} images, {arguments.rounds} interleaved rounds, {_machine()}")
    ours = statistics.median(seconds["batchdigit"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{name:12} median {median:6.2f} s ({min(values):.2f} to {max(values):.2f}), "
            f"{count / median:6.0f} images/s, {median / ours:5.2f} times the time of batchdigit"
        )
    different = [name for name in commands if classes[name] != classes["batchdigit"]]
    if different:
        print(f"other classes: {', '.join(different)}")
    return int(bool(different))


def _make_images(arguments: argparse.Namespace, folder: Path) -> None:
    if arguments.data:
        from benchmarks.mnist import write_test_images

        paths = write_test_images(arguments.data, folder, download=arguments.download)
        for path in paths[arguments.images :]:
            path.unlink()
        return
    folder.mkdir(parents=True)
    samples = sorted((REPOSITORY / "sample_images").glob("*.png"))
    for number in range(arguments.images):
        shutil.copy(samples[number % len(samples)], folder / f"{number}.png")


def _classes(report: Path) -> dict[str, str]:
    with report.open(newline="") as file:
        return {row["filename"]: row["prediction"] for row in csv.DictReader(file)}


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    sys.exit(main())
