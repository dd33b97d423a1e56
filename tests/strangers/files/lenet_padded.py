#!/usr/bin/env python3
import argparse
import os
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


class LeNet(nn.Module):
    """LeNet with ReLU. MNIST is 28x28, so images are padded to 32x32 by the transform."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x

    def num_flat_features(self, x):
        size = x.size()[1:]
        num_features = 1
        for s in size:
            num_features *= s
        return num_features


parser = argparse.ArgumentParser(description="LeNet on MNIST")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--out", default="checkpoints")
args = parser.parse_args()

os.makedirs(args.out, exist_ok=True)
tf = torchvision.transforms.Compose([
    torchvision.transforms.Pad(2),
    torchvision.transforms.ToTensor(),
])
loader = torch.utils.data.DataLoader(
    torchvision.datasets.MNIST("data", download=True, transform=tf), batch_size=128, shuffle=True)
net = LeNet()
opt = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
start = time.time()
for epoch in range(args.epochs):
    for x, y in loader:
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()
    print(f"{epoch}: {time.time() - start:.0f} s")
    torch.save(net.state_dict(), os.path.join(args.out, f"lenet_{epoch}.pth"))
