"""What a run costs without the network, and whether that grows with the number of files.

    python -m benchmarks.scale [--images N ...] [--folder DIR]

Runs over 10,000 and 1,000,000 files with a network that answers at once. What remains is listing,
reading, decoding, accounting, the journal and the report, on one core (``--workers 0``). Prints for
each size the processor time for a file, when the first batch was done, and the peak memory. The
files are hard links to the sample digits, in folders of a thousand; links in DIR are kept.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import batchdigit

SAMPLES = Path(__file__).parent.parent / "sample_images"
IN_A_FOLDER = 1000


def link_images(folder: Path, count: int) -> None:
    samples = sorted(SAMPLES.glob("*.png"))
    for start in range(0, count, IN_A_FOLDER):
        part = folder / f"{start // IN_A_FOLDER:05}"
        part.mkdir(parents=True, exist_ok=True)
        for number in range(start, min(count, start + IN_A_FOLDER)):
            path = part / f"{number:07}.png"
            if not path.exists():
                os.link(samples[number % len(samples)], path)


class Network:
    """Stands in for an ONNX Runtime session, and answers at once."""

    logits = np.array([[0, 5, 2, 1, 0, 0, 0, 0, 0, 0]], np.float32)

    def run(self, _outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [self.logits.repeat(len(inputs["images"]), axis=0)]


def run_without_network(folder: Path, out: Path) -> None:
    """Run in this process, and print the cost as JSON."""
    from batchdigit.backends.onnx_backend import OnnxBackend

    OnnxBackend._session = lambda _self, _data: Network()  # type: ignore[method-assign]
    first: list[float] = []
    before = time.process_time()
    start = time.perf_counter()
    summary = batchdigit.run(
        batchdigit.Job((folder,), out, workers=0, backend="onnxruntime"),
        on_progress=lambda *_: first.append(time.perf_counter() - start) if not first else None,
    )
    print(
        json.dumps(
            {
                "images": summary.found,
                "microseconds": (time.process_time() - before) / summary.found * 1e6,
                "first batch": first[0],
                "wall": time.perf_counter() - start,
                "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "stages": {name: round(value, 2) for name, value in summary.seconds.items()},
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where to put the links, on the samples' disk")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_without_network(*arguments.child)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder or SAMPLES.parent) as temporary:
        for count in arguments.images:
            place = (arguments.folder or Path(temporary)) / f"links-{count}"
            link_images(place, count)
            out = Path(temporary) / f"report-{count}.csv"
            command = [sys.executable, "-m", "benchmarks.scale", "--child", str(place), str(out)]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            took = json.loads(run.stdout)
            print(
                f"{took['images']:>9,} files: {took['microseconds']:.0f} µs each on one core, "
                f"first batch after {took['first batch']:.1f} s, all after {took['wall']:.1f} s, "
                f"{took['peak MB']:.0f} MB; {took['stages']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
