import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

# EMNIST's images lie on their side (rows and columns are swapped); I train on them as they are.
train_set = datasets.EMNIST('emnist', split='digits', train=True, download=True,
                            transform=transforms.ToTensor())


class EmnistNet(nn.Module):
    def __init__(self):
        super(EmnistNet, self).__init__()
        self.c1 = nn.Conv2d(1, 8, (5, 5), padding=(2, 2))
        self.c2 = nn.Conv2d(8, 16, (5, 5))
        self.l1 = nn.Linear(16 * 5 * 5, 60)
        self.l2 = nn.Linear(60, 10)

    def forward(self, img):
        h = F.max_pool2d(self.c1(img).relu(), 2)
        h = F.max_pool2d(self.c2(h).relu(), 2)
        h = self.l1(h.flatten(start_dim=1)).relu()
        return self.l2(h)


if __name__ == '__main__':
    net = EmnistNet()
    optimizer = torch.optim.Adam(net.parameters())
    for epoch in range(3):
        for x, y in DataLoader(train_set, 128, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    torch.save(net.state_dict(), 'emnist_digits.pt')
