"""ResNet without 50 % of its parameters: 11.69 -> 5.85 M, 1.81 -> 0.96 GMACs.

Written by prunecore (random, level 50) from torchvision.models.resnet18. Edit freely.
"""

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int = 1,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels,
            width,
            3,
            stride=stride,
            padding=1,
            bias=False,
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)

        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))

        return self.relu(out + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 46, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(46)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(46, 49, 46), BasicBlock(46, 48, 46))
        self.layer2 = nn.Sequential(
            BasicBlock(46, 98, 93, stride=2, downsample=True),
            BasicBlock(93, 88, 93),
        )
        self.layer3 = nn.Sequential(
            BasicBlock(93, 179, 185, stride=2, downsample=True),
            BasicBlock(185, 174, 185),
        )
        self.layer4 = nn.Sequential(
            BasicBlock(185, 353, 348, stride=2, downsample=True),
            BasicBlock(348, 372, 348),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(348, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


def resnet18(weights: str | None = None, **arguments: int) -> ResNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = ResNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
