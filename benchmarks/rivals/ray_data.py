"""Ray Data: ``python -m benchmarks.rivals.ray_data FOLDER OUT.csv``."""

import sys
from pathlib import Path

import numpy as np
import ray
import torch

from benchmarks.rivals.common import BATCH_SIZE, load_model, write_csv


class Digits:
    def __init__(self) -> None:
        self.model = load_model()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = torch.from_numpy(batch["image"]).unsqueeze(1).float().div_(255)
        with torch.inference_mode():
            confidences, predictions = self.model(images).softmax(dim=1).max(dim=1)
        return {
            "path": batch["path"],
            "prediction": predictions.numpy(),
            "confidence": confidences.numpy(),
        }


if __name__ == "__main__":
    folder, out = sys.argv[1:]
    ray.init(include_dashboard=False)
    images = ray.data.read_images(folder, mode="L", include_paths=True)
    rows = images.map_batches(
        Digits, batch_size=BATCH_SIZE, compute=ray.data.ActorPoolStrategy(size=1)
    ).take_all()
    # Ray does not keep the order.
    write_csv(
        out,
        sorted((Path(row["path"]).name, row["prediction"], row["confidence"]) for row in rows),
    )
