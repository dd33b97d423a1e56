import torch
from torch import nn
from torch.optim import AdamW
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, RandomAffine, ToTensor
from tqdm.auto import tqdm
import wandb

config = dict(lr=3e-3, epochs=20, batch_size=256, project="mnist-bn")


def conv_block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.LeakyReLU(0.1, inplace=True),
    )


class DigitNet(nn.Module):
    def __init__(self, width: int = 12, n_classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_block(1, width)
        self.body = nn.Sequential(
            nn.MaxPool2d(2),
            conv_block(width, 2 * width),
            nn.MaxPool2d(2),
            conv_block(2 * width, 2 * width),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * 49, 64, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, n_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)))


wandb.init(project=config["project"], config=config)
tf = Compose([RandomAffine(10, (0.1, 0.1)), ToTensor(), Normalize(mean=[0.1307], std=[0.3081])])
data = MNIST(".", train=True, download=True, transform=tf)
loader = torch.utils.data.DataLoader(data, config["batch_size"], shuffle=True)
net = DigitNet()
opt = AdamW(net.parameters(), lr=config["lr"])
best = float("inf")
for epoch in range(config["epochs"]):
    for x, y in tqdm(loader):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    wandb.log({"loss": loss.item()})
    if loss.item() < best:
        best = loss.item()
        torch.save({
            "epoch": epoch,
            "model_state_dict": net.state_dict(),
            "optimizer_state_dict": opt.state_dict(),
            "loss": best,
        }, "best.pth")
