"""What the rivals share."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.oracle import CNN

WEIGHTS = Path(__file__).parents[2] / "batchdigit" / "weights" / "CNN.pt"
BATCH_SIZE = 256
WORKERS = os.cpu_count() or 1
Row = tuple[str, int, float]


def load_model() -> CNN:
    import torch  # here, because one rival does without it

    from tests.support.oracle import CNN

    model = CNN()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval()


def write_csv(out: str, rows: Iterable[Row]) -> None:
    with Path(out).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "prediction", "confidence"])
        writer.writerows(rows)
