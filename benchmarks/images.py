"""The images that the speed benchmarks run over."""

import argparse
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="holds MNIST/raw")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch MNIST")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)


def make_images(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    """Write MNIST's test images (with --data) or repeated sample images; return the paths."""
    if arguments.data:
        from benchmarks.mnist import write_test_images

        paths = write_test_images(arguments.data, folder, download=arguments.download)
        for path in paths[arguments.images :]:
            path.unlink()
        return paths[: arguments.images]
    folder.mkdir(parents=True)
    samples = sorted((REPOSITORY / "sample_images").glob("*.png"))
    paths = [folder / f"{number}.png" for number in range(arguments.images)]
    for number, path in enumerate(paths):
        shutil.copy(samples[number % len(samples)], path)
    return paths
