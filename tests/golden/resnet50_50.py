"""ResNet without 50 % of its parameters: 25.56 -> 12.78 M, 4.09 -> 2.01 GMACs.

Written by prunecore (random, level 50) from torchvision.models.resnet50. Edit freely.
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
        stride: int = 1,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width1)
        self.conv2 = nn.Conv2d(width1, width2, 3, stride=stride, padding=1, bias=False)
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
        self.conv1 = nn.Conv2d(3, 45, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(45)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(
            Bottleneck(45, 48, 48, 191, downsample=True),
            Bottleneck(191, 46, 40, 191),
            Bottleneck(191, 46, 42, 191),
        )
        self.layer2 = nn.Sequential(
            Bottleneck(191, 90, 94, 350, stride=2, downsample=True),
            Bottleneck(350, 89, 88, 350),
            Bottleneck(350, 82, 78, 350),
            Bottleneck(350, 82, 92, 350),
        )
        self.layer3 = nn.Sequential(
            Bottleneck(350, 181, 176, 714, stride=2, downsample=True),
            Bottleneck(714, 180, 178, 714),
            Bottleneck(714, 184, 173, 714),
            Bottleneck(714, 176, 189, 714),
            Bottleneck(714, 172, 188, 714),
            Bottleneck(714, 167, 170, 714),
        )
        self.layer4 = nn.Sequential(
            Bottleneck(714, 348, 352, 1420, stride=2, downsample=True),
            Bottleneck(1420, 352, 369, 1420),
            Bottleneck(1420, 353, 362, 1420),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1420, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


def resnet50(weights: str | None = None, **arguments: int) -> ResNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = ResNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
