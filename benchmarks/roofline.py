"""How close the network and a whole run come to what this machine can compute.

    python -m benchmarks.roofline [--data DIR [--download]] [--images N] [--rounds N]

Measures three rates: that of a matrix product (2048x2048, single precision, all cores), which
bounds how many images a second the CNN can label; that of the model alone, on batches of 256 in
memory; and the steady rate of ``batchdigit run``. The last comes from a run over all images and one
over half of them, whose difference excludes start-up. Runs are interleaved; medians are printed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from batchdigit import CNN, convert_model, load_checkpoint
from batchdigit.backends.torch_predictor import Predictor
from batchdigit.batches import Batch
from batchdigit.reading.dataset import DigitImages
from batchdigit.sources.folder import open_folders
from benchmarks.images import REPOSITORY, add_options, make_images
from benchmarks.machine import in_words, machine
from benchmarks.rivals.common import BATCH_SIZE, WEIGHTS
from benchmarks.rivals.onnx_threads import start_session

BACKENDS = ("torch", "onnxruntime")
SIDE = 2048
PRODUCTS = 10
PAUSE = 0.5  # seconds in which the threads of the previous task go to sleep


def flops_of_an_image(model: CNN) -> int:
    """Count multiplications and additions in convolutions and linear layers by their shapes."""
    flops = 0

    def count(layer: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        nonlocal flops
        # Each weight is used once for each position of the output; a linear layer has one position.
        flops += 2 * layer.weight.numel() * output.shape[2:].numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.inference_mode():
        model(torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return flops


def read_batches(folder: Path) -> list[Batch]:
    files = open_folders([folder])
    dataset = DigitImages(files)
    return [
        dataset.__getitems__(range(start, min(len(files), start + BATCH_SIZE)))
        for start in range(0, len(files), BATCH_SIZE)
    ]


def multiply(matrix: torch.Tensor) -> None:
    for _ in range(PRODUCTS):
        torch.mm(matrix, matrix)


def predict_by_torch(predictor: Predictor, batches: list[Batch]) -> None:
    for _ in predictor.predict(batches):
        pass


def predict_by_onnxruntime(session: onnxruntime.InferenceSession, batches: list[Batch]) -> None:
    for batch in batches:
        session.run(None, {"images": batch.images})


def run(backend: str, images: Path, out: Path) -> None:
    command = [sys.executable, "-m", "batchdigit", "run", images, "--quiet", "--out", out]
    options = ["--backend", backend, "--precision", "fp32"]
    subprocess.run([*command, *options], check=True, cwd=REPOSITORY)


def median_seconds(tasks: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The median time of each task; a first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(1 + rounds):
        for name, task in tasks.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    arguments = parser.parse_args()
    model = load_checkpoint(WEIGHTS).model
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images, half, others = folder / "images", folder / "images" / "1", folder / "images" / "2"
        others.mkdir(parents=True)
        paths = make_images(arguments, half)
        count, moved = len(paths), paths[len(paths) // 2 :]
        for path in moved:
            path.rename(others / path.name)
        batches = read_batches(images)
        convert_model(WEIGHTS, folder / "CNN.onnx")
        session = start_session(str(folder / "CNN.onnx"))
        predictor = Predictor(model, torch.device("cpu"), k=2)
        tasks = {
            "product": partial(multiply, torch.rand(SIDE, SIDE)),
            "torch": partial(predict_by_torch, predictor, batches),
            "onnxruntime": partial(predict_by_onnxruntime, session, batches),
        }
        for backend in BACKENDS:
            tasks[f"{backend}, all"] = partial(run, backend, images, folder / "report.csv")
            tasks[f"{backend}, half"] = partial(run, backend, half, folder / "report.csv")
        seconds = median_seconds(tasks, arguments.rounds)

    peak = PRODUCTS * 2 * SIDE**3 / seconds["product"]
    flops = flops_of_an_image(model)
    roof = peak / flops
    print(f"{count} images, {arguments.rounds} interleaved rounds")
    print(in_words(machine()))
    print(f"matrix product: {peak / 1e9:.0f} GFLOP/s on {torch.get_num_threads()} threads")
    print(f"an image takes {flops / 1e6:.1f} MFLOP, so at most {roof:,.0f} images/s")
    for backend in BACKENDS:
        alone = count / seconds[backend]
        difference = seconds[f"{backend}, all"] - seconds[f"{backend}, half"]
        steady = len(moved) / difference
        start = seconds[f"{backend}, all"] - count / steady
        print(
            f"{backend}: the model alone {alone:,.0f} images/s, {alone / roof:.0%} of that; "
            f"a run {steady:,.0f} images/s after {start:.2f} s, {steady / alone:.0%} of the model"
        )


if __name__ == "__main__":
    main()
