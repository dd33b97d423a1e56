"""Which settings to try."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from batchdigit.backends.choice import choose_backend
from batchdigit.backends.opening import open_model_file
from batchdigit.bench.job import BenchJob
from batchdigit.bench.measurement import Setting
from batchdigit.bench.measuring.engine import run_job
from batchdigit.errors import UsageError
from batchdigit.job import BACKENDS
from batchdigit.modelfiles.file import ONNX
from batchdigit.system.imports import is_installed, loading
from batchdigit.system.machine import available_cores, has_bfloat16_units, may_have_gpu

# Besides auto, which is 256 on a CPU and is measured on a GPU.
CPU_BATCH_SIZES = (64, 1024)
GPU_BATCH_SIZES = (256, 1024, 4096, 16384)
MAX_WORKERS = 16


def settings_to_try(job: BenchJob) -> list[Setting]:
    """All settings, each engine's ``auto`` first.

    If batch sizes and workers were both given, every combination of them is tried; otherwise each
    is varied alone, with ``auto`` for the other. Raises UsageError where nothing is left to try.
    """
    engines = list(_engines(job))
    if not engines:
        raise UsageError(
            "no backend can do what was asked for",
            "onnxruntime computes only on cpu in fp32 and no network of your own, and torch no "
            ".onnx files; leave out --backends, --devices or --precisions",
        )
    return [setting for engine in engines for setting in _variations(engine, job)]


def _engines(job: BenchJob) -> Iterator[Setting]:
    _, file = open_model_file(run_job(job, Setting("auto", "auto", "fp32")))
    is_onnx = file is not None and file.format == ONNX
    for backend, device in itertools.product(_backends(job), _devices(job)):
        for precision in job.precisions or _precisions(device):
            setting = Setting(backend, device, precision)
            try:
                choose_backend(run_job(job, setting), is_onnx=is_onnx)
            except UsageError:  # this backend cannot do that
                continue
            yield setting


def _backends(job: BenchJob) -> Sequence[str]:
    if job.backends:
        return job.backends
    return [name for name in BACKENDS[1:] if is_installed(name)]


def _devices(job: BenchJob) -> Sequence[str]:
    if job.devices:
        return job.devices
    return ["cpu", *_gpus()]


def _gpus() -> list[str]:
    """GPUs that PyTorch can use. Its import takes long: it is asked only where there may be one."""
    if not may_have_gpu() or not is_installed("torch"):
        return []
    with loading("PyTorch", "torch"):
        import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cuda"] if len(gpus) == 1 else gpus + ["mps"] * torch.backends.mps.is_available()


def _precisions(device: str) -> Iterable[str]:
    if device.startswith("cuda"):
        return ("fp32", "fp16")
    return ("fp32", "bf16") if device == "cpu" and has_bfloat16_units() else ("fp32",)


def _variations(engine: Setting, job: BenchJob) -> Iterator[Setting]:
    batch_sizes = job.batch_sizes or (
        (None, *CPU_BATCH_SIZES) if engine.device == "cpu" else (None, *GPU_BATCH_SIZES)
    )
    workers = job.workers or (None, *_worker_counts(engine.device))
    if job.batch_sizes and job.workers:
        pairs = list(itertools.product(batch_sizes, workers))
    else:
        pairs = [(size, workers[0]) for size in batch_sizes]
        pairs += [(batch_sizes[0], count) for count in workers[1:]]
    return (replace(engine, batch_size=size, workers=count) for size, count in pairs)


def _worker_counts(device: str) -> list[int]:
    """0, and powers of two up to the number of cores."""
    highest = min(available_cores(), MAX_WORKERS)
    counts = [0, *(2**power for power in range(highest.bit_length())), highest]
    # On a CPU auto is half of the cores; a GPU leaves all cores to the readers.
    lowest = 1 if device != "cpu" or highest > 2 else 2
    return sorted({count for count in counts if count == 0 or count >= lowest})
