"""Sudoku cells: the digits, and 10 for a cell with no digit in it."""
import glob

import cv2
import numpy as np
import torch
import torch.nn as nn

NUM_CLASSES = 11
MODEL_PATH = "sudoku_cells.pt"


class CellNet(nn.Module):
    def __init__(self, num_classes=NUM_CLASSES):
        super(CellNet, self).__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(1, 10, 5, stride=2, padding=2), nn.BatchNorm2d(10), nn.ReLU())
        self.layer2 = nn.Sequential(
            nn.Conv2d(10, 20, 3, stride=2, padding=1), nn.BatchNorm2d(20), nn.ReLU())
        self.fc = nn.Linear(20 * 7 * 7, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(x))
        return self.fc(x.view(x.shape[0], -1))


def load_cells(pattern):
    for name in sorted(glob.glob(pattern)):
        cell = cv2.imread(name, cv2.IMREAD_GRAYSCALE)
        yield name, torch.from_numpy(cell.astype(np.float32) / 255)[None, None]


net = CellNet()
net.load_state_dict(torch.load(MODEL_PATH))
net.eval()
with torch.no_grad():
    for name, cell in load_cells("cells/*.png"):
        label = int(net(cell).argmax())
        print(name, "-" if label == 10 else label)
