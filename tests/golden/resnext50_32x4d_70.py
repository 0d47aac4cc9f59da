"""ResNet without 70 % of its parameters: 25.03 -> 7.51 M, 4.23 -> 1.29 GMACs.

Written by prunecore (random, level 70) from torchvision.models.resnext50_32x4d. Edit freely.
"""

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width1: int,
        width2: int,
        out_channels: int,
        groups: int,
        stride: int = 1,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width1)
        self.conv2 = nn.Conv2d(
            width1,
            width2,
            3,
            stride=stride,
            padding=1,
            groups=groups,
            bias=False,
        )
        self.bn2 = nn.BatchNorm2d(width2)
        self.conv3 = nn.Conv2d(width2, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
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
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))

        return self.relu(out + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 34, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(34)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(
            Bottleneck(34, 88, 88, 152, groups=22, downsample=True),
            Bottleneck(152, 56, 56, 152, groups=14),
            Bottleneck(152, 80, 80, 152, groups=20),
        )
        self.layer2 = nn.Sequential(
            Bottleneck(152, 184, 184, 270, groups=23, stride=2, downsample=True),
            Bottleneck(270, 176, 176, 270, groups=22),
            Bottleneck(270, 112, 112, 270, groups=14),
            Bottleneck(270, 120, 120, 270, groups=15),
        )
        self.layer3 = nn.Sequential(
            Bottleneck(270, 256, 256, 500, groups=16, stride=2, downsample=True),
            Bottleneck(500, 288, 288, 500, groups=18),
            Bottleneck(500, 240, 240, 500, groups=15),
            Bottleneck(500, 304, 304, 500, groups=19),
            Bottleneck(500, 192, 192, 500, groups=12),
            Bottleneck(500, 240, 240, 500, groups=15),
        )
        self.layer4 = nn.Sequential(
            Bottleneck(500, 544, 480, 1071, groups=32, stride=2, downsample=True),
            Bottleneck(1071, 576, 576, 1071, groups=32),
            Bottleneck(1071, 544, 672, 1071, groups=32),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1071, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


def resnext50_32x4d(weights: str | None = None, **arguments: int) -> ResNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = ResNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
