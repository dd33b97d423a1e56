"""The plain loop that the whole program must agree with, written independently of it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import ToTensor


class CNN(nn.Module):
    """The network as its tutorial spells it out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.layer2 = nn.Sequential(
            nn.Conv2d(16, 32, kernel_size=3),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        self.layer3 = nn.Sequential(
            nn.Conv2d(32, 64, kernel_size=3), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        )
        self.layer4 = nn.Sequential(
            nn.Conv2d(64, 128, kernel_size=3),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        self.fc = nn.Sequential(
            nn.Linear(128 * 4 * 4, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.view(x.size(0), -1))


@dataclass(frozen=True)
class SeedRow:
    """The class and the probabilities of all ten classes for one image."""

    prediction: int
    probs: list[float]


def seed_loop(paths: list[Path], weights: Path) -> list[SeedRow]:
    """Open, ToTensor, unsqueeze, forward, softmax, max: one image after another."""
    model = CNN()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    rows = []
    with torch.no_grad():
        for path in paths:
            with Image.open(path) as image:
                output = model(ToTensor()(image).unsqueeze(0))
            probs = nn.functional.softmax(output, dim=1)
            _, prediction = probs.max(1)
            rows.append(SeedRow(prediction.item(), probs[0].tolist()))
    return rows
