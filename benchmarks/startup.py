"""What starting costs, in units of ``python -c "import torch"``, which every torch program pays.

    python -m benchmarks.startup [--rounds N]

Times whole processes: ``batchdigit --help``, and ``batchdigit run`` over ten images with both
backends, interleaved with the import. Prints ratios of medians.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import compile_packages

REPOSITORY = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    compile_packages()
    script = Path(sys.executable).with_name("batchdigit")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "ten"
        folder.mkdir()
        for path in sorted((REPOSITORY / "sample_images").glob("*.png"))[:10]:
            shutil.copy(path, folder)
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "--help": [script, "--help"],
        }
        for backend in ("torch", "onnxruntime"):
            run = [script, "run", folder, "--out", Path(temporary) / f"{backend}.csv", "--quiet"]
            commands[f"10 images, {backend}"] = [*run, "--backend", backend, "--device", "cpu"]
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["import torch"])
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {rounds} interleaved rounds")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:22} median {median:.2f} s, {median / base:.2f} times import torch")


if __name__ == "__main__":
    main()
