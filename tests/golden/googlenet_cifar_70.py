"""GoogLeNet without 70 % of its parameters: 2.40 -> 0.72 M, 224.50 -> 71.05 MMACs.

Written by prunecore (random, level 70) from networks.googlenet_cifar. Edit freely.
"""

import torch
from torch import Tensor, nn


class InceptionBlock(nn.Module):
    def __init__(
        self,
        in_channels: int,
        b1_width: int,
        b2_width1: int,
        b2_width2: int,
        b3_width1: int,
        b3_width2: int,
        b3_width3: int,
        b4_width: int,
    ) -> None:
        super().__init__()
        self.b1 = nn.Sequential(
            nn.Conv2d(in_channels, b1_width, 1),
            nn.BatchNorm2d(b1_width),
            nn.ReLU(inplace=True),
        )
        self.b2 = nn.Sequential(
            nn.Conv2d(in_channels, b2_width1, 1),
            nn.BatchNorm2d(b2_width1),
            nn.ReLU(inplace=True),
            nn.Conv2d(b2_width1, b2_width2, 3, padding=1),
            nn.BatchNorm2d(b2_width2),
            nn.ReLU(inplace=True),
        )
        self.b3 = nn.Sequential(
            nn.Conv2d(in_channels, b3_width1, 1),
            nn.BatchNorm2d(b3_width1),
            nn.ReLU(inplace=True),
            nn.Conv2d(b3_width1, b3_width2, 3, padding=1),
            nn.BatchNorm2d(b3_width2),
            nn.ReLU(inplace=True),
            nn.Conv2d(b3_width2, b3_width3, 3, padding=1),
            nn.BatchNorm2d(b3_width3),
            nn.ReLU(inplace=True),
        )
        self.b4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(in_channels, b4_width, 1),
            nn.BatchNorm2d(b4_width),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        b1 = self.b1(x)
        b2 = self.b2(x)
        b3 = self.b3(x)
        b4 = self.b4(x)
        return torch.cat([b1, b2, b3, b4], 1)


class GoogLeNet(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.pre_layers = nn.Sequential(
            nn.Conv2d(3, 115, 3, padding=1),
            nn.BatchNorm2d(115),
            nn.ReLU(inplace=True),
        )
        self.a3 = InceptionBlock(115, 41, 58, 76, 10, 20, 19, 15)
        self.b3 = InceptionBlock(151, 71, 64, 117, 17, 54, 49, 33)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.a4 = InceptionBlock(270, 112, 55, 102, 5, 23, 22, 34)
        self.b4 = InceptionBlock(270, 81, 60, 128, 14, 31, 41, 30)
        self.a5 = InceptionBlock(280, 154, 84, 175, 19, 69, 55, 79)
        self.avgpool = nn.AvgPool2d(4)
        self.linear = nn.Linear(463, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.pre_layers(x)
        out = self.maxpool(out)
        out = self.a3(out)
        out = self.b3(out)
        out = self.maxpool(out)
        out = self.a4(out)
        out = self.b4(out)
        out = self.maxpool(out)
        out = self.a5(out)
        out = self.avgpool(out)
        out = out.view(out.size(0), -1)
        return self.linear(out)


def googlenet_cifar(weights: str | None = None, **arguments: int) -> GoogLeNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = GoogLeNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
