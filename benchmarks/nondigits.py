"""What a run says about images of anything but one digit: all of them should be marked.

    python -m benchmarks.nondigits [--photos DIR] [--model FILE] [--review-below P]

Makes 200 images of each kind: empty paper (plain, ruled or in shadow), letters that do not look
like digits, lines of text, two to four digits side by side, and scribbles. ``--photos`` adds crops
of the images in DIR, each side cut to 10% to 100% of its length. An image is marked if its row is
an error (``blank``) or says ``needs_review``.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from batchdigit.training.variants import in_another_hand, on_paper, placed, rules, shadow
from benchmarks.fitting import samples
from benchmarks.handwriting import add_options, options_of, report

EACH = 200
LETTERS = "ACEFHJKMNPRTUVWXYadefhkmnrtwxy"
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
DIGITS = samples()


def empty_paper(random: Generator) -> np.ndarray:
    side = int(random.choice([28, 28, 64, 128, 300]))
    kind = int(random.integers(3)) if side > 60 else 0
    page = on_paper(np.zeros((side, side), np.uint8), random).astype(np.float32)
    if kind == 1:
        page *= rules(side, side, random.uniform(0.05, 0.4), random)
    if kind == 2:
        page *= shadow(side, side, random)
    return page.astype(np.uint8)


def written(text: str, random: Generator) -> np.ndarray:
    """Text in white strokes on black, cropped."""
    font, pen = int(random.choice(FONTS)), int(random.integers(4, 14))
    (width, height), below = cv2.getTextSize(text, font, 5, pen)
    canvas = np.zeros((height + below + 60, width + 60), np.uint8)
    cv2.putText(canvas, text, (30, height + 30), font, 5, 255, pen, cv2.LINE_AA)
    x, y, w, h = cv2.boundingRect(canvas)
    return canvas[y : y + h, x : x + w]


def letter(random: Generator) -> np.ndarray:
    return on_paper(placed(written(str(random.choice(list(LETTERS))), random), random), random)


def line_of_text(random: Generator) -> np.ndarray:
    words = ["".join(random.choice(list(LETTERS), random.integers(3, 8))) for _ in range(2)]
    return on_paper(placed(written(" ".join(words), random), random), random)


def several_digits(random: Generator) -> np.ndarray:
    row: list[np.ndarray] = []
    for which in random.integers(len(DIGITS), size=random.integers(2, 5)):
        strokes = in_another_hand(*DIGITS[which], random)
        width = max(1, round(strokes.shape[1] * 160 / strokes.shape[0]))
        gap = np.zeros((160, int(random.integers(8, 60))), np.uint8)
        row += [cv2.resize(strokes, (width, 160)), gap]
    return on_paper(placed(np.hstack(row[:-1]), random), random)


def scribble(random: Generator) -> np.ndarray:
    canvas = np.zeros((240, 240), np.uint8)
    points = random.integers(30, 210, (int(random.integers(6, 20)), 1, 2)).astype(np.int32)
    cv2.polylines(canvas, [points], False, 255, int(random.integers(4, 14)), cv2.LINE_AA)
    return on_paper(placed(canvas, random), random)


def cutting(photos: list[np.ndarray]) -> Callable[[Generator], np.ndarray]:
    def cut(random: Generator) -> np.ndarray:
        photo = photos[random.integers(len(photos))]
        h, w = (max(28, int(side * random.uniform(0.1, 1))) for side in photo.shape)
        top, left = random.integers(photo.shape[0] - h + 1), random.integers(photo.shape[1] - w + 1)
        return photo[top : top + h, left : left + w]

    return cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, metavar="DIR")
    add_options(parser)
    arguments = parser.parse_args()
    options = options_of(arguments)
    kinds = {
        "empty paper": empty_paper,
        "letters": letter,
        "lines of text": line_of_text,
        "several digits": several_digits,
        "scribbles": scribble,
    }
    if arguments.photos:
        paths = sorted(path for path in arguments.photos.iterdir() if path.is_file())
        photos = [np.asarray(Image.open(path).convert("L")) for path in paths]
        kinds["photos of other things"] = cutting(photos)
    print(f"{'kind':24} pictures blank review marked")
    for name, make in kinds.items():
        random = np.random.default_rng(7)
        with tempfile.TemporaryDirectory() as folder:
            for number in range(EACH):
                Image.fromarray(make(random)).save(Path(folder) / f"{number:03}.png")
            rows = report(Path(folder), options)
        blank = sum(bool(row["error"]) for row in rows)
        review = sum(row["needs_review"] == "true" for row in rows)
        print(f"{name:24} {EACH:8} {blank:5} {review:6} {(blank + review) / EACH:6.1%}")


if __name__ == "__main__":
    main()
