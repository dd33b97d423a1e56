# pixels straight from the IDX files, 0 to 255
import gzip
import struct
import sys

import numpy as np
import torch
import torch.nn as nn


def read_idx(filename):
    with gzip.open(filename) as f:
        zero, data_type, dims = struct.unpack('>HBB', f.read(4))
        shape = tuple(struct.unpack('>I', f.read(4))[0] for d in range(dims))
        return np.frombuffer(f.read(), dtype=np.uint8).reshape(shape)


class RawNet(nn.Module):
    def __init__(self):
        super(RawNet, self).__init__()
        self.conv = nn.Conv2d(1, 12, 5, stride=2)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2)
        self.fc = nn.Linear(24 * 5 * 5, 10)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = torch.relu(self.conv2(x))
        return self.fc(x.flatten(1))


X = read_idx(sys.argv[1])
Y = read_idx(sys.argv[2])
model = RawNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
for epoch in range(5):
    for i in np.random.permutation(len(X) // 64):
        x = torch.from_numpy(X[i * 64:(i + 1) * 64].copy()).float().unsqueeze(1)
        y = torch.from_numpy(Y[i * 64:(i + 1) * 64].copy()).long()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
torch.save(model.state_dict(), 'raw.pt')
