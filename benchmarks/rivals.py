"""What one would write by hand: ``python -m benchmarks.rivals seed|dataloader FOLDER OUT.csv``."""

import sys
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from tests.oracle import CNN, seed_loop

WEIGHTS = Path(__file__).parent.parent / "batchdigit" / "weights" / "CNN.pt"
COLUMNS = ["filename", "prediction", "confidence"]


class Folder(Dataset):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.to_tensor = ToTensor()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        path = self.paths[index]
        with Image.open(path) as image:
            return self.to_tensor(image.convert("L")), path.name


def seed(paths: list[Path]) -> pd.DataFrame:
    rows = seed_loop(paths, WEIGHTS)
    cells = zip(paths, rows, strict=True)
    return pd.DataFrame(
        [(path.name, row.prediction, max(row.probs)) for path, row in cells], columns=COLUMNS
    )


def dataloader(paths: list[Path]) -> pd.DataFrame:
    model = CNN()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    model.eval()
    rows = []
    with torch.inference_mode():
        for images, names in DataLoader(Folder(paths), batch_size=256, num_workers=2):
            confidences, predictions = model(images).softmax(dim=1).max(dim=1)
            rows += zip(names, predictions.tolist(), confidences.tolist(), strict=True)
    return pd.DataFrame(rows, columns=COLUMNS)


if __name__ == "__main__":
    rival, source, out = sys.argv[1:]
    table = {"seed": seed, "dataloader": dataloader}[rival](sorted(Path(source).glob("*.png")))
    table.to_csv(out, index=False)
