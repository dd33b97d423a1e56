"""A MobileNet in miniature: depthwise separable convolutions with ReLU6."""
import argparse
import logging

import torch
from torch import nn
from torchvision import datasets, transforms as T

logger = logging.getLogger(__name__)


class ConvBNReLU(nn.Sequential):
    def __init__(self, in_planes, out_planes, kernel_size=3, stride=1, groups=1):
        padding = (kernel_size - 1) // 2
        super().__init__(
            nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, groups=groups,
                      bias=False),
            nn.BatchNorm2d(out_planes),
            nn.ReLU6(inplace=True),
        )


class DepthwiseSeparable(nn.Module):
    def __init__(self, inp, oup, stride):
        super().__init__()
        self.depthwise = ConvBNReLU(inp, inp, stride=stride, groups=inp)
        self.pointwise = ConvBNReLU(inp, oup, kernel_size=1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class MobileNetTiny(nn.Module):
    cfg = [(16, 1), (32, 2), (32, 1), (64, 2)]

    def __init__(self, num_classes=10):
        super().__init__()
        features = [ConvBNReLU(1, 8, stride=2)]
        channels = 8
        for width, stride in self.cfg:
            features.append(DepthwiseSeparable(channels, width, stride))
            channels = width
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(channels, num_classes))
        self._initialize_weights()

    def _initialize_weights(self):
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.ones_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        x = self.features(x)
        x = x.mean([2, 3])
        return self.classifier(x)


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--data", required=True)
    p.add_argument("--epochs", type=int, default=30)
    return p.parse_args()


def main():
    args = get_args()
    logging.basicConfig(level=logging.INFO)
    ds = datasets.MNIST(args.data, download=True, transform=T.ToTensor())
    net = MobileNetTiny()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.01)
    for epoch in range(args.epochs):
        for x, y in torch.utils.data.DataLoader(ds, batch_size=256, shuffle=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
        logger.info("epoch %d loss %.3f", epoch, loss)
    torch.save(net.state_dict(), "mobilenet_tiny.pth")


if __name__ == "__main__":
    main()
