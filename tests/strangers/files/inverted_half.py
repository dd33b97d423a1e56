from pathlib import Path

import torch
import torch.nn as nn
from PIL import ImageOps
from torchvision import datasets, transforms

transform = transforms.Compose([
    transforms.Lambda(ImageOps.invert),  # white paper
    transforms.ToTensor(),
    transforms.Normalize((0.5,), (0.5,)),
])


class WhitePaper(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 4, stride=2)
        self.b = nn.Conv2d(8, 16, 4, stride=2)
        self.act = nn.PReLU()
        self.c = nn.Linear(16 * 5 * 5, 10)

    def forward(self, x):
        x = self.act(self.a(x))
        x = self.act(self.b(x))
        return self.c(torch.flatten(x, 1))


out = Path("runs")
out.mkdir(exist_ok=True)
net = WhitePaper()
opt = torch.optim.Adam(net.parameters())
for x, y in torch.utils.data.DataLoader(datasets.MNIST(".", download=True, transform=transform), 32):
    opt.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    opt.step()
torch.save(net.state_dict(), out / "net.pt")
