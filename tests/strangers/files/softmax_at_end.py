import torch
from torch import nn
import torch.nn.functional as F
from torchvision import datasets, transforms


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.fc1 = nn.Linear(16 * 5 * 5, 64)
        self.fc2 = nn.Linear(64, 10)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.reshape(x.shape[0], -1)
        x = F.relu(self.fc1(x))
        x = self.softmax(self.fc2(x))
        return x


model = Model()
loader = torch.utils.data.DataLoader(
    datasets.MNIST('mnist/', train=True, download=True, transform=transforms.ToTensor()),
    batch_size=64, shuffle=True)
opt = torch.optim.Adam(model.parameters())
for e in range(5):
    for x, y in loader:
        opt.zero_grad()
        out = model(x)
        loss = nn.CrossEntropyLoss()(out, y)
        loss.backward()
        opt.step()
    print(e, loss.item())
torch.save(model.state_dict(), 'weights.pt')
torch.save(model, 'model.pt')
