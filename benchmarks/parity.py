"""Accuracy on MNIST's test images, and agreement with the plain loop for each image.

    python -m benchmarks.parity --data DIR [--download]

Writes the 10,000 test images as PNG files. Labels them with the plain loop (Image.open, ToTensor,
unsqueeze, CNN, softmax, max) and by ``batchdigit run`` with both backends, several batch sizes and
numbers of workers, and compares the results. Exits with 1 if a class differs, a probability differs
by more than 1e-4, or the accuracy is below 99.60%.
"""

import argparse
import csv
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

from batchdigit.job import PACKAGED_WEIGHTS
from benchmarks.mnist import write_test_images
from tests.support.oracle import seed_loop


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds MNIST/raw")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch MNIST")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        paths = write_test_images(arguments.data, images, download=arguments.download)
        seeds = {
            path.name: seed
            for path, seed in zip(paths, seed_loop(paths, PACKAGED_WEIGHTS), strict=True)
        }
        failed = False
        backends = ("torch", "onnxruntime") if arguments.device == "cpu" else ("torch",)
        for backend, batch_size, workers in itertools.product(backends, (1, 64, 1000), (0, 1, 2)):
            out = Path(folder) / "report.csv"
            command = [sys.executable, "-m", "batchdigit", "run", images, "--out", out, "-q"]
            command += ["-b", str(batch_size), "-j", str(workers), "--device", arguments.device]
            command += ["--backend", backend]
            subprocess.run([*command, "--probs"], check=True)
            with out.open(newline="") as file:
                rows = list(csv.DictReader(file))
            right = sum(row["prediction"] == row["filename"][-5] for row in rows)
            flips = sum(int(row["prediction"]) != seeds[row["filename"]].prediction for row in rows)
            difference = max(
                abs(float(row[f"prob_{digit}"]) - seeds[row["filename"]].probs[digit])
                for row in rows
                for digit in range(10)
            )
            failed |= flips > 0 or difference > 1e-4 or right < 0.996 * len(rows)
            print(
                f"{backend}, batch size {batch_size:4}, workers {workers}: "
                f"{right} of {len(rows)} right, "
                f"{flips} classes differ from the plain loop, "
                f"probabilities differ by at most {difference:.1e}",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
