# LeNet-5 as in the paper of 1998 (more or less): 32x32 inputs, tanh, average pooling.
import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

RANDOM_SEED = 42
LEARNING_RATE = 0.001
BATCH_SIZE = 32
N_EPOCHS = 15

IMG_SIZE = 32
N_CLASSES = 10

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def get_accuracy(model, data_loader, device):
    correct_pred = 0
    n = 0
    with torch.no_grad():
        model.eval()
        for X, y_true in data_loader:
            y_prob = torch.softmax(model(X.to(device)), dim=1)
            n += y_true.size(0)
            correct_pred += (y_prob.argmax(1).cpu() == y_true).sum()
    return correct_pred.float() / n


def train(train_loader, model, criterion, optimizer, device):
    model.train()
    for X, y_true in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(X.to(device)), y_true.to(device))
        loss.backward()
        optimizer.step()


class LeNet5(nn.Module):

    def __init__(self, n_classes=10):
        super(LeNet5, self).__init__()

        self.feature_extractor = nn.Sequential(
            nn.Conv2d(in_channels=1, out_channels=6, kernel_size=5, stride=1),
            nn.Tanh(),
            nn.AvgPool2d(kernel_size=2),
            nn.Conv2d(in_channels=6, out_channels=16, kernel_size=5, stride=1),
            nn.Tanh(),
            nn.AvgPool2d(kernel_size=2),
            nn.Conv2d(in_channels=16, out_channels=120, kernel_size=5, stride=1),
            nn.Tanh()
        )

        self.classifier = nn.Sequential(
            nn.Linear(in_features=120, out_features=84),
            nn.Tanh(),
            nn.Linear(in_features=84, out_features=n_classes),
        )

    def forward(self, x):
        x = self.feature_extractor(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
train_dataset = datasets.MNIST(root='mnist_data', train=True, transform=transform, download=True)
valid_dataset = datasets.MNIST(root='mnist_data', train=False, transform=transform)
train_loader = DataLoader(dataset=train_dataset, batch_size=BATCH_SIZE, shuffle=True)
valid_loader = DataLoader(dataset=valid_dataset, batch_size=BATCH_SIZE, shuffle=False)

torch.manual_seed(RANDOM_SEED)
model = LeNet5(N_CLASSES).to(DEVICE)
optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
criterion = nn.CrossEntropyLoss()
for epoch in range(N_EPOCHS):
    train(train_loader, model, criterion, optimizer, DEVICE)
    print(f'Epoch {epoch}: {100 * get_accuracy(model, valid_loader, DEVICE):.2f} % valid')
torch.save(model.state_dict(), 'lenet5.pth')
