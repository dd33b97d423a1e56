"""The network of a Keras model, whose input is (batch, 28, 28, 1), rebuilt to convert it."""
import sys

import torch
import torch.nn as nn


class KerasCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d = nn.Conv2d(1, 8, 3)
        self.conv2d_1 = nn.Conv2d(8, 16, 3)
        self.dense = nn.Linear(5 * 5 * 16, 10)

    def forward(self, inputs):
        x = inputs.permute(0, 3, 1, 2)
        x = torch.max_pool2d(torch.relu(self.conv2d(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2d_1(x)), 2)
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)  # Keras flattens with channels last
        return torch.softmax(self.dense(x), dim=-1)


if __name__ == "__main__":
    import h5py

    with h5py.File(sys.argv[1]) as weights:
        print(list(weights))
