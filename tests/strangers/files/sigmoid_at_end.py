import numpy as np
import torch
import torch.nn as nn


class NeuralNetwork(nn.Module):
    """One output per digit, each a yes or no."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 200),
            nn.LeakyReLU(0.02),
            nn.LayerNorm(200),
            nn.Linear(200, 10),
            nn.Sigmoid(),
        )
        self.loss_function = nn.BCELoss()
        self.counter = 0
        self.progress = []

    def forward(self, inputs):
        return self.model(inputs)

    def train_step(self, inputs, targets, optimiser):
        outputs = self.forward(inputs)
        loss = self.loss_function(outputs, targets)
        self.counter += 1
        if self.counter % 10 == 0:
            self.progress.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


if __name__ == '__main__':
    import pandas
    C = NeuralNetwork()
    optimiser = torch.optim.Adam(C.parameters())
    frame = pandas.read_csv('mnist_train.csv', header=None)
    for i, row in frame.iterrows():
        target = torch.zeros(1, 10)
        target[0, row[0]] = 1.0
        image = torch.FloatTensor(np.asarray(row[1:]) / 255.0).view(1, 1, 28, 28)
        C.train_step(image, target, optimiser)
    torch.save(C.state_dict(), 'bce.pth')
