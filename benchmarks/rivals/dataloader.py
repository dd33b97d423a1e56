"""A DataLoader: ``python -m benchmarks.rivals.dataloader FOLDER OUT.csv [DEVICE]``."""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from benchmarks.rivals.common import BATCH_SIZE, WORKERS, Row, load_model, write_csv


class Folder(Dataset):
    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).glob("*.png"))
        self.to_tensor = ToTensor()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        path = self.paths[index]
        with Image.open(path) as image:
            return self.to_tensor(image.convert("L")), path.name


def loader(folder: str) -> DataLoader:
    return DataLoader(Folder(folder), batch_size=BATCH_SIZE, num_workers=WORKERS)


if __name__ == "__main__":
    source, out, device = [*sys.argv[1:], "cpu"][:3]
    model = load_model().to(device)
    rows: list[Row] = []
    with torch.inference_mode():
        for images, names in loader(source):
            confidences, predictions = model(images.to(device)).softmax(dim=1).max(dim=1)
            rows += zip(names, predictions.tolist(), confidences.tolist(), strict=True)
    write_csv(out, rows)
