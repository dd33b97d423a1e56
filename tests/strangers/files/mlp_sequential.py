from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn, optim
from torchvision import datasets, transforms

input_size = 784
hidden_sizes = [128, 64]
output_size = 10


def build_model(input_size=784, hidden_sizes=(128, 64), output_size=10, drop_p=0.1):
    """Feed-forward network with arbitrary hidden layers. Images must be flattened first."""
    layers = OrderedDict()
    sizes = [input_size, *hidden_sizes]
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:])):
        layers[f"fc{i + 1}"] = nn.Linear(n_in, n_out)
        layers[f"relu{i + 1}"] = nn.ReLU()
        layers[f"drop{i + 1}"] = nn.Dropout(p=drop_p)
    layers["output"] = nn.Linear(sizes[-1], output_size)
    return nn.Sequential(layers)


def view_classify(img, ps):
    """Show an image beside its predicted classes."""
    ps = ps.cpu().data.numpy().squeeze()
    fig, (ax1, ax2) = plt.subplots(figsize=(6, 9), ncols=2)
    ax1.imshow(img.resize_(1, 28, 28).numpy().squeeze())
    ax1.axis("off")
    ax2.barh(np.arange(10), ps)
    ax2.set_yticks(np.arange(10))
    plt.tight_layout()


trainset = datasets.MNIST("~/.pytorch/MNIST_data/", download=True, train=True,
                          transform=transforms.ToTensor())
trainloader = torch.utils.data.DataLoader(trainset, batch_size=64, shuffle=True)

model = build_model(input_size, hidden_sizes, output_size)
print(model)

criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
for e in range(15):
    running_loss = 0
    for images, labels in trainloader:
        images = images.view(images.shape[0], -1)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    else:
        print("Epoch {} - Training loss: {}".format(e, running_loss / len(trainloader)))

images, labels = next(iter(trainloader))
img = images[0].view(1, 784)
with torch.no_grad():
    ps = torch.softmax(model(img), dim=1)
view_classify(img.view(1, 28, 28), ps)
plt.show()
torch.save(model.state_dict(), "./my_mnist_model.pt")
