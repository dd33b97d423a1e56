import torch.nn as nn


class SqueezeExcite(nn.Module):
    def __init__(self, channels, r=4):
        super().__init__()
        self.fc = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // r, 1), nn.ReLU(),
            nn.Conv2d(channels // r, channels, 1), nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.fc(x)


class ConvBlock(nn.Module):
    def __init__(self, cin, cout, stride=2):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = nn.Hardswish()
        self.se = SqueezeExcite(cout)

    def forward(self, x):
        return self.se(self.act(self.bn(self.conv(x))))


if __name__ == "__main__":
    print(ConvBlock(1, 8))
