"""The time of a whole ``batchdigit run``, compared with scripts that one would write by hand.

    python -m benchmarks.throughput [--data DIR [--download]] [--images N] [--rounds N]
                                    [--rivals NAME ...] [--device DEVICE] [--markdown]
                                    [--out FILE.json]

The rivals are the scripts in ``benchmarks/rivals``, with the same weights and PNG files. Rivals
whose packages are not installed are left out. A first round is not timed; if they do not all give
the same classes in it, the script fails. The timed runs are interleaved, in a different order each
round, to even out drift. The images are MNIST's test images with --data, and the repeated sample
images without. With a --device other than cpu, PyTorch computes there, in batchdigit and in the
DataLoader's script, which is then the only rival.
"""

import argparse
import csv
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images import REPOSITORY, add_options, make_images
from benchmarks.machine import compile_packages, in_words, machine

OURS = {
    "batchdigit_torch": "torch",
    "batchdigit_auto": "torch, --precision auto",
    "batchdigit_onnxruntime": "ONNX Runtime",
}
OPTIONS = {
    "batchdigit_torch": ["--backend", "torch"],
    "batchdigit_auto": ["--backend", "torch", "--precision", "auto"],
    "batchdigit_onnxruntime": ["--backend", "onnxruntime"],
}
RIVALS = {
    "onnx_threads": "threads, OpenCV, ONNX Runtime",
    "dataloader": "Dataset and DataLoader",
    "lightning_predict": "Lightning's Trainer.predict",
    "timm_loader": "timm's reader and loader",
    "seed_loop": "the plain loop, image by image",
    "ray_data": "Ray Data",
}
# What a rival needs in addition to this project's packages: a module, and its name for pip.
NEEDS = {
    "lightning_predict": ("lightning", "lightning"),
    "timm_loader": ("timm", "timm"),
    "ray_data": ("ray", "ray[data]"),
}
PAUSE = 2  # seconds; Ray's processes outlive the one that started them


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, help="default: all installed")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="store the figures here")
    arguments = parser.parse_args()
    rivals = _installed(arguments.rivals)
    if arguments.device != "cpu":
        rivals = [name for name in rivals if name == "dataloader"]
    compile_packages()

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = folder / "images"
        count = len(make_images(arguments, images))
        commands = _commands(rivals, images, folder, arguments.device)
        for command in commands.values():
            _seconds_of(command, folder / "log.txt")
        classes = {name: _classes(folder / f"{name}.csv") for name in commands}
        different = [name for name in commands if classes[name] != classes["batchdigit_torch"]]
        if different:
            print(f"these give other classes than batchdigit with torch: {', '.join(different)}")
            return 1
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(arguments.rounds):
            for name in _order(list(commands), number):
                seconds[name].append(_seconds_of(commands[name], folder / "log.txt"))

    result = {
        "images": count,
        "of": "MNIST's test images" if arguments.data else "the sample images, repeated",
        "rounds": arguments.rounds,
        "machine": machine(),
        "rows": _rows(seconds, count),
    }
    print(f"{count} images ({result['of']}), {arguments.rounds} interleaved rounds")
    print(in_words(result["machine"]))
    print("\n".join(_table(result["rows"], markdown=arguments.markdown)))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _installed(wanted: list[str] | None) -> list[str]:
    """The rivals that can run; says how to install the others."""
    rivals = list(RIVALS) if wanted is None else wanted
    missing = [name for name in rivals if name in NEEDS and not find_spec(NEEDS[name][0])]
    if missing:
        install = shlex.join(["pip", "install", *(NEEDS[name][1] for name in missing)])
        print(f"left out: {', '.join(missing)}, which need: {install}", flush=True)
    return [name for name in rivals if name not in missing]


def _commands(rivals: list[str], images: Path, folder: Path, device: str) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]
    commands = {}
    for name, options in OPTIONS.items():
        run = ["batchdigit", "run", str(images), "--quiet", *options, "--out"]
        commands[name] = [*python, *run, str(folder / f"{name}.csv")]
        commands[name] += ["--device", device if "torch" in options else "cpu"]
    for name in rivals:
        out = folder / f"{name}.csv"
        commands[name] = [*python, f"benchmarks.rivals.{name}", str(images), str(out)]
    if "dataloader" in rivals:
        commands["dataloader"].append(device)
    if "onnx_threads" in rivals:
        weights, model = "batchdigit/weights/CNN.pt", str(folder / "CNN.onnx")
        convert = [*python, "batchdigit", "model", "convert", weights, model]
        _seconds_of(convert, folder / "log.txt")
        commands["onnx_threads"].append(model)
    return commands


def _order(names: list[str], number: int) -> list[str]:
    """A different first name each round, every other round reversed, so that neighbours change."""
    start = number % len(names)
    order = names[start:] + names[:start]
    return order[::-1] if number % 2 else order


def _seconds_of(command: list[str], log: Path) -> float:
    time.sleep(PAUSE)
    # Not into a pipe, which Ray's processes would keep open.
    with log.open("w") as file:
        start = time.perf_counter()
        ended = subprocess.run(
            command, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT, check=False
        )
        seconds = time.perf_counter() - start
    if ended.returncode:
        sys.exit(f"{log.read_text()}\nexit code {ended.returncode}: {' '.join(command)}")
    return seconds


def _classes(report: Path) -> dict[str, str]:
    with report.open(newline="") as file:
        return {row["filename"]: row["prediction"] for row in csv.DictReader(file)}


def _rows(seconds: dict[str, list[float]], images: int) -> dict[str, dict[str, Any]]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = {}
    for name, values in seconds.items():
        rows[name] = {
            "seconds": values,
            "median": medians[name],
            "min": min(values),
            "max": max(values),
            "interquartile": np.percentile(values, 75) - np.percentile(values, 25),
            "images per second": images / medians[name],
            "times": {ours: medians[name] / medians[ours] for ours in OURS},
        }
    return rows


def _table(rows: dict[str, dict[str, Any]], *, markdown: bool) -> list[str]:
    ours = {name: f"batchdigit, {label}" for name, label in OURS.items()}
    ratios = [f"time relative to {label}" for label in OURS.values()]
    cells = [["", "median", "range", "interquartile", "images/s", *ratios]]
    cells += [
        [
            (ours | RIVALS)[name],
            f"{row['median']:.2f} s",
            f"{row['min']:.2f} to {row['max']:.2f} s",
            f"{row['interquartile']:.2f} s",
            f"{row['images per second']:,.0f}",
            *(f"{ratio:.2f}" for ratio in row["times"].values()),
        ]
        for name, row in rows.items()
    ]
    if markdown:
        cells.insert(1, ["---"] * len(cells[0]))
        return [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


if __name__ == "__main__":
    sys.exit(main())
