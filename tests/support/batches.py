"""Batches for worker processes to make, without images to read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batchdigit.batches import Batch
from batchdigit.reading.clocks import FileClocks
from batchdigit.reading.workers import Plan


class FakeFiles:
    """Batches of any size, and a file that says how many were made."""

    def __init__(self, log: Path, pixels: int = 784) -> None:
        self.log = log
        self.pixels = pixels

    def memory(self, batch_size: int) -> int:
        return 1 << 30

    def report_to(self, clocks: FileClocks, place: int) -> None:
        clocks.stop(place)
        self.place = place
        self.clocks = clocks

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        with self.log.open("a") as file:
            file.write(f"{self.place}\n")
        self.clocks.start(self.place, indices[0])
        count = len(indices)
        images = np.full((count, self.pixels), indices[0], np.uint8)
        self.clocks.stop(self.place)
        return Batch(np.array(indices), images)

    def made(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


def plan(batches: int, batch_size: int = 1) -> Plan:
    return Plan(np.arange(batches * batch_size), batch_size, range(batches), 784)
