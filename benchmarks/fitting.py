"""What fitting an image costs, and what it makes of the image.

    python -m benchmarks.fitting [--picture FILE]

Times ``batchdigit.images.fit.fit`` on one core, without decoding, on 28x28 variants of the sample
digits and on photos of 1, 4 and 12 megapixels. ``--picture`` instead draws a dozen variants, each
with what the network sees.
"""

import argparse
import contextlib
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from batchdigit.errors import ImageError
from batchdigit.images.fit import fit
from batchdigit.training.variants import drawn, in_another_hand, photographed, variant

SAMPLES = Path(__file__).parent.parent / "sample_images"
ROUNDS = 7


def samples() -> list[tuple[np.ndarray, int]]:
    """The sample digits and their labels."""
    paths = sorted(SAMPLES.glob("*.png"), key=lambda path: int(path.name.split("-")[0]))
    return [(np.asarray(Image.open(path)), int(path.stem[-1])) for path in paths]


def photo(digit: np.ndarray, label: int, megapixels: float, random: np.random.Generator):
    side = int((megapixels * 1e6 / 12) ** 0.5)
    page = np.zeros((3 * side, 4 * side), np.uint8)
    strokes = in_another_hand(digit, label, random)
    factor = 1.5 * side / max(strokes.shape)
    large = cv2.resize(strokes, None, fx=factor, fy=factor)
    h, w = large.shape
    page[side // 2 : side // 2 + h, side : side + w] = large
    return photographed(page, random)


def microseconds(images: list[np.ndarray]) -> float:
    """The median over the rounds of the mean time for an image."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for image in images:
            with contextlib.suppress(ImageError):
                fit(image)
        rounds.append((time.perf_counter() - start) / len(images) * 1e6)
    return statistics.median(rounds)


def draw(path: Path) -> None:
    random = np.random.default_rng(5)
    tiles = []
    for digit, label in samples()[:12]:
        while True:
            picture = variant(digit, label, random)
            if max(picture.shape) >= 28:
                break
        factor = 140 / max(picture.shape)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
        before = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=how)
        h, w = before.shape
        tile = np.full((304, 150), 255, np.uint8)
        tile[5 : 5 + h, (150 - w) // 2 : (150 - w) // 2 + w] = before
        after = cv2.resize(fit(picture).pixels, (140, 140), interpolation=cv2.INTER_NEAREST)
        tile[155:295, 5:145] = after
        tiles.append(tile)
    rows = [np.hstack(tiles[start : start + 6]) for start in (0, 6)]
    Image.fromarray(np.vstack(rows)).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.picture:
        draw(arguments.picture)
        return
    cv2.setNumThreads(1)
    random = np.random.default_rng(6)
    digits = samples()
    kinds = {
        "drawings of 28x28": [drawn(digit, random) for digit, _ in digits],
        "photos of 28x28": [photographed(digit, random) for digit, _ in digits],
    }
    for name, images in kinds.items():
        print(f"{name}: {microseconds(images):.0f} µs an image", flush=True)
    for megapixels in (1, 4, 12):
        images = [photo(digit, label, megapixels, random) for digit, label in digits[:5]]
        pixels = np.mean([image.size for image in images]) / 1e6
        each = microseconds(images)
        print(f"photos of {pixels:.1f} megapixels: {each / 1e3 / pixels:.2f} ms a megapixel")


if __name__ == "__main__":
    main()
