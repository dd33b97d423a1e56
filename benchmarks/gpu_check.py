"""Check everything that only a GPU can show, with one command, in less than ten minutes.

    python -m benchmarks.gpu_check --out DIR [--data DIR] [--device cuda] [--seconds 150]

Runs the tests marked ``gpu`` (parity with the plain loop, continuing after memory has run out,
precisions, batch sizes), ``batchdigit doctor``, the sweep of ``batchdigit bench`` over CPU and GPU
with its plot, the DataLoader's script on the same GPU, and with --data the comparison of all
10,000 test images. The output of each step goes to DIR/STEP.txt, its results lie beside that, and
DIR/summary.json says how each step ended. Exits with 1 if a step failed or did not end in time.

With ``--device cpu`` the same steps run without a GPU; the tests that need one are then skipped.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.images import REPOSITORY
from benchmarks.machine import machine

MAX_SECONDS = 590.0
MIN_SECONDS_OF_A_STEP = 5.0  # with less time left, a step is not begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, help="holds MNIST/raw")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=150.0, help="for the sweep")
    parser.add_argument("--images", type=int, default=10_000, help="for the DataLoader's script")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not _cuda_is_there():
        print("PyTorch finds no CUDA device here; see `batchdigit doctor`")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    outcomes = run_steps(_steps(arguments), arguments.out)
    summary = {"device": arguments.device, "machine": machine(), "steps": outcomes}
    (arguments.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return int(any(outcome["ended"] != "well" for outcome in outcomes.values()))


def run_steps(
    steps: dict[str, list[str]], folder: Path, max_seconds: float = MAX_SECONDS
) -> dict[str, dict[str, object]]:
    """Run one step after another within ``max_seconds`` in all, and say how each ended."""
    deadline = time.monotonic() + max_seconds
    outcomes: dict[str, dict[str, object]] = {}
    for name, command in steps.items():
        start = time.monotonic()
        outcomes[name] = {"ended": _ended(command, folder / f"{name}.txt", deadline - start)}
        outcomes[name]["seconds"] = round(time.monotonic() - start, 1)
        print(f"{name}: {outcomes[name]['ended']}, {outcomes[name]['seconds']} s", flush=True)
    return outcomes


def _ended(command: list[str], log: Path, seconds: float) -> str:
    if seconds < MIN_SECONDS_OF_A_STEP:
        return "not begun: no time was left"
    with log.open("w") as file:
        step = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            returncode = step.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(step.pid, signal.SIGKILL)  # and the processes that it started
            step.wait()
            return "stopped: no time was left"
    return "well" if returncode == 0 else f"with exit code {returncode}"


def _steps(arguments: argparse.Namespace) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]
    out, device = arguments.out.resolve(), arguments.device
    devices = "cpu" if device == "cpu" else f"cpu,{device}"
    bench = [*python, "batchdigit", "bench", "--seconds", str(arguments.seconds)]
    steps = {
        "doctor": [*python, "batchdigit", "doctor"],
        "tests": [*python, "pytest", "-m", "gpu", "-n", "0", "-q"],
        "bench": [
            *(*bench, "--devices", devices, "--out", str(out / "bench.json")),
            *("--plot", str(out / "bench.html")),
        ],
        "throughput": [
            *(*python, "benchmarks.throughput", "--device", device, "--rivals", "dataloader"),
            *("--rounds", "3", "--images", str(arguments.images)),
            *("--out", str(out / "throughput.json")),
        ],
    }
    if arguments.data:
        data = ["--data", str(arguments.data.resolve())]
        steps["throughput"] += data
        steps["parity"] = [*python, "benchmarks.parity", "--device", device, *data]
    return steps


def _cuda_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
