import torch
import torch.nn as nn
from torchvision import datasets, transforms

EPOCHS = 20


class AllConv(nn.Module):
    """No fully connected layer: a 1x1 convolution, then the average over the whole map."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 10, 1),
        )
        self.gap = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.gap(self.features(x))  # N x 10 x 1 x 1


model = AllConv().cuda()
train = datasets.MNIST("/tmp/mnist", download=True, transform=transforms.ToTensor())
optim = torch.optim.Adam(model.parameters())
for _ in range(EPOCHS):
    for x, y in torch.utils.data.DataLoader(train, batch_size=100, shuffle=True):
        optim.zero_grad()
        nn.CrossEntropyLoss()(model(x.cuda()).squeeze(), y.cuda()).backward()
        optim.step()
torch.save(model.state_dict(), "allconv.pth")
