"""Compare the speed of two checkouts: throughput, start-up, reading and scale.

    python -m benchmarks.versus BEFORE AFTER [--data DIR [--download]] [--images N] [--rounds N]
                                [--files N]

The two take turns. The ratios are medians of AFTER over medians of BEFORE: 1.03 is 3% slower.

- *throughput*: the whole process of ``batchdigit run`` over N images, with both backends; the
  images are MNIST's test images with --data, and the repeated sample images without;
- *start-up*: the same over ten images, and ``batchdigit --help``;
- *reading*: the processor time for each image of a run over N images without worker processes and
  without a network (``benchmarks.scale``);
- *scale*: the same over --files images, when the first batch was done, and the peak memory.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.checkouts import batchdigit, in_checkout
from benchmarks.images import add_options, make_images
from benchmarks.machine import compile_packages, in_words, machine
from benchmarks.scale import link_images


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(checkout: Path, source: Path, out: Path, backend: str) -> float:
    options = ["--backend", backend, "--device", "cpu", "--quiet", "--fresh"]
    return seconds(lambda: batchdigit(checkout, "run", source, "--out", out, *options))


def without_network(checkout: Path, folder: Path, out: Path) -> dict[str, float]:
    """The cost of a run over ``folder`` without the network."""
    done = in_checkout(checkout, "-m", "benchmarks.scale", "--child", folder, out)
    if done.returncode:
        sys.exit(f"{checkout}: {done.stderr}")
    took: dict[str, float] = json.loads(done.stdout)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    add_options(parser)
    parser.add_argument("--files", type=int, default=1_000_000, help="for scale; 0 leaves it out")
    arguments = parser.parse_args()
    checkouts = [arguments.before.resolve(), arguments.after.resolve()]
    for checkout in checkouts:
        compile_packages(checkout)
    values: dict[str, tuple[list[float], list[float]]] = {}

    def note(what: str, side: int, value: float) -> None:
        values.setdefault(what, ([], []))[side].append(value)

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as temporary:
        place = Path(temporary)
        make_images(arguments, place / "images")
        link_images(place / "ten", 10)
        link_images(place / "linked", arguments.images)
        out = place / "report.csv"
        for number in range(arguments.rounds):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            for side in order:
                checkout = checkouts[side]
                help_seconds = seconds(lambda: batchdigit(checkout, "--help"))  # noqa: B023
                note("start-up, --help, s", side, help_seconds)
            for backend in ("torch", "onnxruntime"):
                for side in order:
                    took = run(checkouts[side], place / "ten", out, backend)
                    note(f"start-up, 10 images, {backend}, s", side, took)
                for side in order:
                    took = run(checkouts[side], place / "images", out, backend)
                    note(f"throughput, {arguments.images} images, {backend}, s", side, took)
            for side in order:
                took = without_network(checkouts[side], place / "linked", out)["microseconds"]
                note(f"reading, {arguments.images} images, µs each", side, took)
        if arguments.files:
            link_images(place / "many", arguments.files)
            for number in range(min(arguments.rounds, 3)):
                for side in (0, 1) if number % 2 == 0 else (1, 0):
                    many = without_network(checkouts[side], place / "many", out)
                    note(f"scale, {arguments.files} images, µs each", side, many["microseconds"])
                    note(f"scale, {arguments.files} images, s to the first batch", side,
                         many["first batch"])  # fmt: skip
                    note(f"scale, {arguments.files} images, peak MB", side, many["peak MB"])
    print(f"{in_words(machine())}; {arguments.rounds} interleaved rounds")
    print(f"{'':48} {'before':>9} {'after':>9} {'ratio':>7}")
    for what, sides in values.items():
        before, after = map(statistics.median, sides)
        print(f"{what:48} {before:9.3f} {after:9.3f} {after / before:7.3f}")


if __name__ == "__main__":
    main()
