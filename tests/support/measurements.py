"""Made-up measurements, to try out what is said about measurements and drawn from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from batchdigit.bench.measurement import Check, Measurement, Parity, Point, Sample, Setting, Start

TORCH = Setting("torch", "cpu", "fp32")
ONNX = Setting("onnxruntime", "cpu", "fp32")
GPU = Setting("torch", "cuda", "fp16")
REFERENCE = TORCH.engine
ENGINES = (
    ONNX,
    TORCH,
    Setting("torch", "cpu", "bf16"),
    Setting("torch", "cuda:0", "fp32"),
    Setting("torch", "cuda:0", "fp16"),
    Setting("torch", "cuda:0", "bf16"),
)


def sample(rate: float = 1000.0, *, images: int = 1000, **others: object) -> Sample:
    """A run at ``rate`` images per second; predicting takes nine tenths of its time."""
    span = images / rate
    values = {
        "images": images,
        "seconds": {
            "import": 0.0,
            "load": 0.1,
            "list": 0.0,
            "start": 0.02,
            "read": 0.04 * span,
            "predict": 0.9 * span,
            "journal": 0.01 * span,
            "write": 0.04 * span,
            "total": span + 0.12,
        },
        "busy": {"read": 0.05 * span, "decode": 0.1 * span, "fit": 0.05 * span, "network": span},
        "cpu_seconds": 1.2 * span,
        "batch_size": 256,
        "workers": 1,
        "threads": 1,
        "peak_memory": 300_000_000,
        "peak_device_memory": None,
        "joules": None,
    }
    return Sample(**(values | others))  # type: ignore[arg-type]


def point(
    setting: Setting = TORCH, rates: Iterable[float] = (1000.0,), flips: int = 0, **others: object
) -> Point:
    """A point with a sample for each of the rates."""
    chosen = {
        "batch_size": setting.batch_size or 256,
        "workers": 1 if setting.workers is None else setting.workers,
    }
    values = {
        "setting": setting,
        "samples": tuple(sample(rate, **chosen) for rate in rates),
        "network_rates": (),
        "reading_rates": (),
        "parity": Parity(REFERENCE, 1000, flips, 1e-7),
        "problem": None,
    }
    return Point(**(values | others))  # type: ignore[arg-type]


def failed_point(setting: Setting, problem: str) -> Point:
    """A point at which nothing could be measured."""
    return point(setting, (), parity=None, problem=problem)


def measurement(*points: Point, starts: dict[Setting, float] | None = None) -> Measurement:
    """A measurement of these points; by default each engine takes a second to start."""
    engines = {one.setting.engine: one.setting for one in points}
    starts = dict.fromkeys(engines.values(), 1.0) if starts is None else starts
    best = max(points, key=lambda one: one.rate, default=None)
    return Measurement(
        started="2026-01-02T03:04:05+00:00",
        machine={
            "cores": 2,
            "processor": "Some Processor",
            "memory": 8_000_000_000,
            "devices": ["cpu"],
            "platform": "Linux",
            "python": "3.12.0",
            "host": "here",
        },
        versions={"batchdigit": "0.1.0", "torch": "2.10.0"},
        model={"path": "weights/CNN.pt", "sha256": "0123456789abcdef" * 4},
        source={"paths": ["images"], "images": 1000, "compared": 1000, "preprocess": "auto"},
        method={"seconds": 60.0, "statistic": "median"},
        points=points,
        starts=tuple(Start(engine.engine, (seconds,)) for engine, seconds in starts.items()),
        best=best.setting if best else None,
        check=Check("batchdigit run images --out preds.csv", 10_000, (11.5,)),
    )


def sweep(
    engines: int,
    batch_sizes: Sequence[int],
    workers: Sequence[int],
    samples: int = 5,
    seed: int = 0,
) -> Measurement:
    """Points of the first ``engines`` of ``ENGINES``, where larger batches are faster."""
    random = np.random.default_rng(seed)
    points = []
    for place, engine in enumerate(ENGINES[:engines]):
        for count in workers:
            for size in batch_sizes:
                rate = 3_000 * (1 + place) ** 1.3 * size**0.2 * (1 + 0.4 * count)
                rates = [float(rate * noise) for noise in np.exp(random.normal(0, 0.04, samples))]
                alone = {
                    "network_rates": tuple(1.5 * one for one in rates),
                    "reading_rates": tuple(2 * one for one in rates),
                }
                setting = replace(engine, batch_size=size, workers=count)
                points.append(point(setting, rates, **alone))
    starts = {engine: 0.5 + 1.2 * place for place, engine in enumerate(ENGINES[:engines])}
    return measurement(*points, starts=starts)


STEADY = (1.0, 1.01, 0.99, 1.02, 0.98, 1.005)
"""Rates that hardly scatter."""


def of_rates(*rates: Iterable[float]) -> Measurement:
    """Settings of one engine, each with samples at these rates."""
    return measurement(
        *(
            point(replace(ONNX, batch_size=2**power, workers=2), of_one)
            for power, of_one in enumerate(rates, 4)
        )
    )


def scaled(old: Measurement, factor: float, engine: str = "") -> Measurement:
    """The same measurement at other rates, for engines with ``engine`` in their names."""

    def faster(one: Point) -> Point:
        if engine not in one.setting.engine:
            return one
        samples = tuple(
            replace(sample, images=round(sample.images * factor)) for sample in one.samples
        )
        return replace(one, samples=samples)

    return replace(old, points=tuple(map(faster, old.points)))
