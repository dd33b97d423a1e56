import matplotlib.pyplot as plt
import seaborn as sns
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix
from torchvision import datasets, transforms

LABELS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt'


class BalancedNet(nn.Module):
    def __init__(self, n_classes=47, p=0.05):
        super(BalancedNet, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(24)
        self.fc1 = nn.Linear(24 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, n_classes)
        self.p = p

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        x = F.dropout(x, self.p, self.training)
        return F.log_softmax(self.fc2(x), 1)


assert len(LABELS) == 47
net = BalancedNet()
train = datasets.EMNIST('data', 'balanced', train=True, download=True,
                        transform=transforms.ToTensor())
optimizer = torch.optim.Adam(net.parameters())
truth, guesses = [], []
for x, y in torch.utils.data.DataLoader(train, 256, shuffle=True):
    optimizer.zero_grad()
    out = net(x)
    F.nll_loss(out, y).backward()
    optimizer.step()
    truth += y.tolist()
    guesses += out.argmax(1).tolist()
sns.heatmap(confusion_matrix(truth, guesses))
plt.savefig('confusion.png')
torch.save(net.state_dict(), 'balanced.pt')
