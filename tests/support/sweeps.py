"""Made-up measurements, for what is drawn of them and for what comparing them says."""

from collections.abc import Iterable, Sequence

import numpy as np

from batchdigit.bench.measurement import Measurement, Parity, Point, Sample, Setting, Start

ENGINES = (
    ("onnxruntime", "cpu", "fp32"),
    ("torch", "cpu", "fp32"),
    ("torch", "cpu", "bf16"),
    ("torch", "cuda:0", "fp32"),
    ("torch", "cuda:0", "fp16"),
    ("torch", "cuda:0", "bf16"),
)
STAGES = {
    "import": 0.4, "load": 0.1, "list": 0.0, "start": 0.05,
    "read": 0.3, "save": 0.0, "predict": 0.5, "journal": 0.02, "write": 0.1,
}  # fmt: skip
WORK = {"read": 0.2, "decode": 0.5, "fit": 0.2, "transfer": 0.02, "network": 0.8}


def sample(rate: float, batch_size: int = 256, workers: int = 2, images: int = 10_000) -> Sample:
    """A run of that many images a second, whose stages take what they usually do of its time."""
    span = images / rate
    start = {"import", "load", "list", "start"}
    seconds = {
        name: share if name in start else share * 0.98 * span / 0.92
        for name, share in STAGES.items()
    }
    seconds["total"] = span + sum(share for name, share in STAGES.items() if name in start)
    return Sample(
        images=images,
        seconds=seconds,
        busy={name: share * span for name, share in WORK.items()},
        cpu_seconds=1.9 * span,
        batch_size=batch_size,
        workers=workers,
        threads=2,
        peak_memory=300 << 20,
        peak_device_memory=None,
        joules=None,
    )


def point(
    engine: int | tuple[str, str, str],
    rates: Iterable[float],
    batch_size: int = 256,
    workers: int = 2,
) -> Point:
    """A point of one of ``ENGINES``."""
    names = ENGINES[engine] if isinstance(engine, int) else engine
    rates = list(rates)
    return Point(
        setting=Setting(*names, batch_size, workers),
        samples=tuple(sample(rate, batch_size, workers) for rate in rates),
        network_rates=tuple(rate * 1.5 for rate in rates),
        reading_rates=tuple(rate * 2 for rate in rates),
        parity=Parity("torch on cpu in fp32", 10_000, 0, 1e-6),
    )


def measurement(points: Sequence[Point], starts: Sequence[Start] | None = None) -> Measurement:
    """A measurement of these points, with an account of its machine."""
    engines = list(dict.fromkeys(point.setting.engine for point in points))
    if starts is None:
        starts = [
            Start(engine, (0.5 + 1.2 * place, 0.6 + 1.2 * place))
            for place, engine in enumerate(engines)
        ]
    best = max(points, key=lambda point: point.rate, default=None)
    return Measurement(
        started="2026-05-04T10:20:30+00:00",
        machine={"processor": "Example CPU 9000", "cores": 2, "gpu": None, "memory": 8 << 30},
        versions={"batchdigit": "0.1.0", "torch": "2.10.0"},
        model={"path": "weights/CNN.pt", "sha256": "ab" * 32},
        source={"path": "sample_images", "images": 10_000},
        method={"images": 10_000, "samples": 5},
        points=tuple(points),
        starts=tuple(starts),
        best=best.setting if best else None,
    )


def sweep(engines: int, batch_sizes: Sequence[int], workers: Sequence[int], samples: int = 5,
          seed: int = 0) -> Measurement:  # fmt: skip
    """Points of the first ``engines``, as they might come out: larger batches are faster."""
    random = np.random.default_rng(seed)
    return measurement(
        [
            point(
                engine,
                3_000
                * (1 + engine) ** 1.3
                * size**0.2
                * (1 + 0.4 * count)
                * np.exp(random.normal(0, 0.04, samples)),
                size,
                count,
            )
            for engine in range(engines)
            for count in workers
            for size in batch_sizes
        ]
    )
