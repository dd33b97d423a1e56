import os
os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
import torch
import torch.nn as nn
from torchvision import datasets, transforms


class DropNet(nn.Module):
    def __init__(self):
        super(DropNet, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.drop1 = nn.Dropout2d(0.1)
        self.drop2 = nn.Dropout(0.25)
        self.drop3 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 7 * 7, 100)
        self.fc2 = nn.Linear(100, 10)

    def forward(self, x):
        x = self.drop1(self.pool(torch.relu(self.conv1(x))))
        x = self.drop1(self.pool(torch.relu(self.conv2(x))))
        x = x.view(-1, 32 * 7 * 7)
        x = self.drop2(x)
        x = self.drop3(torch.relu(self.fc1(x)))
        return self.fc2(x)


model = nn.DataParallel(DropNet()).cuda()
tf = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
loader = torch.utils.data.DataLoader(
    datasets.MNIST('.', download=True, transform=tf), batch_size=512, shuffle=True)
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(30):
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x.cuda()), y.cuda()).backward()
        optimizer.step()
torch.save(model.state_dict(), 'dp.pth')
