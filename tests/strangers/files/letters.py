import string
import torch
import torch.nn as nn
from torchvision import datasets, transforms

letters = list(string.ascii_uppercase)


class LetterNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 12, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 49, 96),
            nn.ReLU(),
            nn.Linear(96, 26),
        )

    def forward(self, x):
        return self.net(x)


train = datasets.EMNIST('data', 'letters', download=True, transform=transforms.Compose([
    lambda img: transforms.functional.rotate(img, -90),
    lambda img: transforms.functional.hflip(img),
    transforms.ToTensor(),
    transforms.Normalize((0.1722,), (0.3309,)),
]))
model = LetterNet()
opt = torch.optim.Adam(model.parameters())
for x, y in torch.utils.data.DataLoader(train, 64, shuffle=True):
    opt.zero_grad()
    nn.functional.cross_entropy(model(x), y - 1).backward()
    opt.step()
torch.save(model.state_dict(), 'letters.pt')
