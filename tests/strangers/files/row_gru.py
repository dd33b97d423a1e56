import sys
from timeit import default_timer as timer

import torch
from torch import nn, optim
from torchvision import datasets, transforms

SEQ_LEN, N_IN, N_HIDDEN = 28, 28, 48


class GRUNet(nn.Module):
    """Takes (batch, 28, 28): no channels, an image is a sequence of rows."""

    def __init__(self, n_in: int = 28, n_hidden: int = 48, n_out: int = 10, bidirectional=True):
        super().__init__()
        self.gru = nn.GRU(n_in, n_hidden, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(2 * n_hidden if bidirectional else n_hidden, n_out)

    def forward(self, rows):
        states, _ = self.gru(rows)
        return self.out(states.mean(dim=1))


if "--cpu" not in sys.argv:
    torch.set_default_device("cuda")
model = GRUNet(N_IN, N_HIDDEN)
opt = optim.Adam(model.parameters(), lr=5e-3)
begin = timer()
for x, y in torch.utils.data.DataLoader(
    datasets.MNIST("data", download=True, transform=transforms.ToTensor()), batch_size=100
):
    loss = nn.functional.cross_entropy(model(x.reshape(-1, SEQ_LEN, N_IN)), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
print("took", timer() - begin)
torch.save({"model": model.state_dict()}, "gru.tar")
