"""How good the packaged model is on other people's handwriting, and how well it is calibrated.

    python -m benchmarks.handwriting DIR [--preprocess auto|exact|fit] [--mnist DIR]

DIR holds ``GROUP/LABEL/FILE``: any number of groups of images, each with one folder for each digit.
``--mnist`` adds MNIST's test images. Prints for each group the accuracy, the expected calibration
error over 15 bins of equal width (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
Networks", 2017), the share of rows marked for review, and the share of errors that are marked.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.mnist import write_test_images

BINS = 15
Row = dict[str, str]


def report(folder: Path, options: list[str]) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "report.csv"
        command = [sys.executable, "-m", "batchdigit", "run", str(folder), "--out", str(out), "-q"]
        subprocess.run([*command, "--max-bad", "100%", *options], check=True)
        with out.open(newline="") as file:
            return list(csv.DictReader(file))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="weights to use instead of the packaged ones")
    parser.add_argument("--review-below", help="a threshold to use instead of the default")


def options_of(arguments: argparse.Namespace) -> list[str]:
    """The options of :func:`add_options` that were given, for ``batchdigit run``."""
    given = {"--model": arguments.model, "--review-below": arguments.review_below}
    return [part for name, value in given.items() if value for part in (name, value)]


def line(group: str, rows: list[tuple[str, Row]]) -> str:
    if all(row["error"] for _, row in rows):
        return f"{group:24} {len(rows):6}, none of them read"
    read = [(label, row) for label, row in rows if not row["error"]]
    right = np.array([row["prediction"] == label for label, row in read])
    confidence = np.array([float(row["confidence"]) for _, row in read])
    review = np.array([row["needs_review"] == "true" for _, row in read])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(BINS)]
    errors = int((~right).sum())
    caught = f"{(review & ~right).sum() / errors:.0%} of {errors}" if errors else "no errors"
    return (
        f"{group:24} {len(rows):6} {right.sum() / len(rows):8.2%} {len(rows) - len(read):5} "
        f"{sum(gaps) / len(read):6.2%} {review.mean():7.2%}   {caught}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="holds MNIST/raw")
    parser.add_argument("--preprocess", default="auto")
    add_options(parser)
    arguments = parser.parse_args()
    options = ["--preprocess", arguments.preprocess, *options_of(arguments)]

    groups: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for row in report(arguments.folder, options):
        group, _, rest = row["filename"].partition("/")
        label, _, name = rest.partition("/")
        if not name:
            sys.exit(f"{row['filename']} is not GROUP/LABEL/FILE in {arguments.folder}")
        groups[group].append((label, row))
    everyone = [row for rows in groups.values() for row in rows]
    if arguments.mnist:
        with tempfile.TemporaryDirectory() as folder:
            write_test_images(arguments.mnist, Path(folder))
            groups["MNIST test"] = [
                (row["filename"].split("-")[2][0], row) for row in report(Path(folder), options)
            ]
    print(f"{'group':24} images accuracy blank    ECE  review   errors marked for review")
    for group, rows in groups.items():
        print(line(group, rows))
    print(line("all but MNIST", everyone))


if __name__ == "__main__":
    main()
