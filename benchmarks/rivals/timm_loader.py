"""timm's reader and loader: ``python -m benchmarks.rivals.timm_loader FOLDER OUT.csv``.

As in timm's own inference.py, the loader yields only images; the dataset has the names.
"""

import sys

import torch
from timm.data import create_dataset, create_loader

from benchmarks.rivals.common import BATCH_SIZE, WORKERS, load_model, write_csv

if __name__ == "__main__":
    folder, out = sys.argv[1:]
    dataset = create_dataset("", root=folder, input_img_mode="L")
    loader = create_loader(
        dataset,
        input_size=(1, 28, 28),
        batch_size=BATCH_SIZE,
        mean=(0.0,),
        std=(1.0,),
        crop_pct=1.0,
        num_workers=WORKERS,
        device=torch.device("cpu"),
    )
    model = load_model()
    predictions: list[int] = []
    confidences: list[float] = []
    with torch.inference_mode():
        for images, _ in loader:
            top = model(images).softmax(dim=1).max(dim=1)
            predictions += top.indices.tolist()
            confidences += top.values.tolist()
    # timm sorts by the numbers in the names.
    write_csv(out, sorted(zip(dataset.filenames(), predictions, confidences, strict=True)))
