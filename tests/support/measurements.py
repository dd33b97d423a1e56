"""Measurements that nobody made, to try on them what is made of measurements."""

from __future__ import annotations

from collections.abc import Sequence

from batchdigit.bench.measurement import Check, Measurement, Parity, Point, Sample, Setting, Start

TORCH = Setting("torch", "cpu", "fp32")
ONNX = Setting("onnxruntime", "cpu", "fp32")
GPU = Setting("torch", "cuda", "fp16")
REFERENCE = TORCH.engine


def sample(rate: float = 1000.0, *, images: int = 1000, **others: object) -> Sample:
    """A run of so many images a second, of which the network takes nine tenths."""
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
    }
    return Sample(**(values | others))  # type: ignore[arg-type]


def point(
    setting: Setting = TORCH, rates: Sequence[float] = (1000.0,), flips: int = 0, **others: object
) -> Point:
    """A point with a sample for each of the rates."""
    values = {
        "setting": setting,
        "samples": tuple(
            sample(rate, batch_size=setting.batch_size or 256, workers=1)
            if setting.workers is None
            else sample(rate, batch_size=setting.batch_size or 256, workers=setting.workers)
            for rate in rates
        ),
        "parity": Parity(REFERENCE, 1000, flips, 1e-7),
    }
    return Point(**(values | others))  # type: ignore[arg-type]


def measurement(*points: Point, starts: dict[Setting, float] | None = None) -> Measurement:
    """A measurement of these points; by default each engine takes a second to start."""
    engines = dict.fromkeys(one.setting for one in points)
    starts = dict.fromkeys(engines, 1.0) if starts is None else starts
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
        model={"path": "CNN.pt", "sha256": "0123456789abcdef" * 4},
        source={"paths": ["images"], "images": 1000, "compared": 1000, "preprocess": "auto"},
        method={"seconds": 60.0, "statistic": "median"},
        points=points,
        starts=tuple(Start(engine.engine, (seconds,)) for engine, seconds in starts.items()),
        best=points[0].setting if points else None,
        check=Check("batchdigit run images --out preds.csv", 10_000, (11.5,)),
    )
