import torch
from torch import nn
from torchvision import datasets, transforms

# Scans are black ink on white paper, so MNIST is inverted for training.
preprocess = transforms.Compose([
    transforms.ToTensor(),
    transforms.Lambda(lambda x: 1 - x),
])


class PaperNet(nn.Module):
    def __init__(self, dropout=0.2):
        super().__init__()
        self.convs = nn.ModuleList([
            nn.Conv2d(1, 12, 3, padding=1),
            nn.Conv2d(12, 24, 3, padding=1),
        ])
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(24 * 7 * 7, 10)

    def forward(self, x):
        for conv in self.convs:
            x = self.pool(torch.relu(conv(x)))
        return self.fc(self.drop(torch.flatten(x, start_dim=1)))


ds = datasets.MNIST('./', train=True, download=True, transform=preprocess)
net = PaperNet()
opt = torch.optim.Adam(net.parameters(), 1e-3)
for x, y in torch.utils.data.DataLoader(ds, 64, True):
    opt.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    opt.step()
torch.save(net.state_dict(), 'paper.pt')
