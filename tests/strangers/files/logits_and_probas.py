import time
import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision import datasets
from torchvision import transforms
from torch.utils.data import DataLoader

##########################
### SETTINGS
##########################

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
random_seed = 1
learning_rate = 0.05
num_epochs = 10
batch_size = 128
num_classes = 10

train_dataset = datasets.MNIST(root='data', train=True, transform=transforms.ToTensor(),
                               download=True)
train_loader = DataLoader(dataset=train_dataset, batch_size=batch_size, shuffle=True)

##########################
### MODEL
##########################


class ConvNet(torch.nn.Module):

    def __init__(self, num_classes):
        super(ConvNet, self).__init__()
        # 28x28x1 => 28x28x8
        self.conv_1 = torch.nn.Conv2d(1, 8, kernel_size=3, stride=1, padding=1)
        # 28x28x8 => 14x14x8
        self.pool_1 = torch.nn.MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=0)
        self.conv_2 = torch.nn.Conv2d(8, 16, kernel_size=3, stride=1, padding=1)
        self.pool_2 = torch.nn.MaxPool2d(kernel_size=(2, 2), stride=(2, 2), padding=0)
        self.linear_1 = torch.nn.Linear(7 * 7 * 16, num_classes)

        for m in self.modules():
            if isinstance(m, torch.nn.Conv2d):
                m.weight.detach().normal_(0, 0.05)
                m.bias.detach().zero_()

    def forward(self, x):
        out = self.pool_1(F.relu(self.conv_1(x)))
        out = self.pool_2(F.relu(self.conv_2(out)))
        logits = self.linear_1(out.view(-1, 7 * 7 * 16))
        probas = F.softmax(logits, dim=1)
        return logits, probas


torch.manual_seed(random_seed)
model = ConvNet(num_classes=num_classes)
model = model.to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)


def compute_accuracy(model, data_loader):
    correct_pred, num_examples = 0, 0
    for features, targets in data_loader:
        logits, probas = model(features.to(device))
        _, predicted_labels = torch.max(probas, 1)
        num_examples += targets.size(0)
        correct_pred += (predicted_labels.cpu() == targets).sum()
    return correct_pred.float() / num_examples * 100


start_time = time.time()
for epoch in range(num_epochs):
    model = model.train()
    for batch_idx, (features, targets) in enumerate(train_loader):
        logits, probas = model(features.to(device))
        cost = F.cross_entropy(logits, targets.to(device))
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    with torch.set_grad_enabled(False):
        print('Epoch: %03d/%03d training accuracy: %.2f%%' % (
              epoch + 1, num_epochs, compute_accuracy(model, train_loader)))
print('Total Training Time: %.2f min' % ((time.time() - start_time) / 60))
torch.save(model, 'convnet.pt')
