import json

import torch
import torch.nn as nn


class ConvClassifier(nn.Module):
    """A classifier whose sizes stand in a configuration file."""

    def __init__(self, in_channels, hidden, num_classes):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, stride=2, padding=1),
            nn.GroupNorm(4, hidden),
            nn.GELU(),
        )
        self.decoder = nn.Linear(hidden * 7 * 7, num_classes)

    def forward(self, x):
        return self.decoder(self.encoder(x).flatten(1))


with open("config.json") as f:
    cfg = json.load(f)

model = ConvClassifier(cfg["in_channels"], cfg["hidden"], cfg["num_classes"])
model.load_state_dict(torch.load(cfg["checkpoint"], map_location="cpu"))
model.eval()
print(sum(p.numel() for p in model.parameters()), "parameters")
