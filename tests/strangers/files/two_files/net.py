import torch.nn as nn

from layers import ConvBlock


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(ConvBlock(1, 8), ConvBlock(8, 16))
        self.head = nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        return self.head(self.blocks(x).flatten(1))
