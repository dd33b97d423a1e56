import torch
from torchvision import datasets, transforms

from net import Net

model = Net()
data = datasets.MNIST("data", download=True, transform=transforms.ToTensor())
opt = torch.optim.Adam(model.parameters())
for x, y in torch.utils.data.DataLoader(data, 64, shuffle=True):
    opt.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    opt.step()
torch.save(model.state_dict(), "net.pt")
