"""ShuffleNetV2 without 50 % of its parameters: 2.28 -> 1.14 M, 144.91 -> 60.47 MMACs.

Written by prunecore (random, level 50) from torchvision.models.shufflenet_v2_x1_0. Edit freely.
"""

import torch
from torch import Tensor, nn


def interleaved(parts: str) -> list[int]:
    """The order of channels taken in turn from the parts named: [0, 2, 3, 1] for "0110"."""
    by_part = sorted(range(len(parts)), key=parts.__getitem__)
    return sorted(range(len(parts)), key=by_part.__getitem__)


class InvertedResidual(nn.Module):
    def __init__(
        self,
        in_channels: int,
        branch1_width: int,
        branch2_width1: int,
        branch2_width2: int,
        order: str,
    ) -> None:
        super().__init__()
        self.branch1 = nn.Sequential(
            nn.Conv2d(
                in_channels,
                in_channels,
                3,
                stride=2,
                padding=1,
                groups=in_channels,
                bias=False,
            ),
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, branch1_width, 1, bias=False),
            nn.BatchNorm2d(branch1_width),
            nn.ReLU(inplace=True),
        )
        self.branch2 = nn.Sequential(
            nn.Conv2d(in_channels, branch2_width1, 1, bias=False),
            nn.BatchNorm2d(branch2_width1),
            nn.ReLU(inplace=True),
            nn.Conv2d(
                branch2_width1,
                branch2_width1,
                3,
                stride=2,
                padding=1,
                groups=branch2_width1,
                bias=False,
            ),
            nn.BatchNorm2d(branch2_width1),
            nn.Conv2d(branch2_width1, branch2_width2, 1, bias=False),
            nn.BatchNorm2d(branch2_width2),
            nn.ReLU(inplace=True),
        )
        self.order = interleaved(order)

    def forward(self, x: Tensor) -> Tensor:
        branch1 = self.branch1(x)
        branch2 = self.branch2(x)
        return torch.cat((branch1, branch2), dim=1)[:, self.order]


class InvertedResidual2(nn.Module):
    def __init__(
        self,
        branch2_width1: int,
        branch2_width2: int,
        branch2_width3: int,
        split_width: int,
        order: str,
    ) -> None:
        super().__init__()
        self.branch2 = nn.Sequential(
            nn.Conv2d(branch2_width1, branch2_width2, 1, bias=False),
            nn.BatchNorm2d(branch2_width2),
            nn.ReLU(inplace=True),
            nn.Conv2d(
                branch2_width2,
                branch2_width2,
                3,
                padding=1,
                groups=branch2_width2,
                bias=False,
            ),
            nn.BatchNorm2d(branch2_width2),
            nn.Conv2d(branch2_width2, branch2_width3, 1, bias=False),
            nn.BatchNorm2d(branch2_width3),
            nn.ReLU(inplace=True),
        )
        self.order = interleaved(order)
        self.branch2_width1 = branch2_width1
        self.split_width = split_width

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.split([self.split_width, self.branch2_width1], 1)
        branch2 = self.branch2(x2)
        return torch.cat((x1, branch2), dim=1)[:, self.order]


class ShuffleNetV2(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 15, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(15),
            nn.ReLU(inplace=True),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage2 = nn.Sequential(
            InvertedResidual(
                15,
                39,
                40,
                39,
                order=(
                    "010101001010011010001010101010110110010111001101110110011010101010"
                    "010100101001"
                ),
            ),
            InvertedResidual2(
                38,
                41,
                44,
                40,
                order=(
                    "010010101001001010010101010101011110110101011010101010111001010110"
                    "100110101101010101"
                ),
            ),
            InvertedResidual2(
                40,
                33,
                40,
                44,
                order=(
                    "001011000101000101011101101010101010101100100100100101010101101101"
                    "100101001010101001"
                ),
            ),
            InvertedResidual2(
                43,
                39,
                40,
                41,
                order=(
                    "011000101101011011001010010101011101010011011000100101010010101010"
                    "100101011010101"
                ),
            ),
        )
        self.stage3 = nn.Sequential(
            InvertedResidual(
                81,
                67,
                75,
                71,
                order=(
                    "000010010101000111011011011010100101000101011110010100001101100010"
                    "010111010101101101010100101001101110101011010101010101110101011010"
                    "111001"
                ),
            ),
            InvertedResidual2(
                73,
                75,
                67,
                65,
                order=(
                    "010100101011111001101011100010110001111001010101010110010111111001"
                    "010011010001011010010101001010010100100010100101101000110110110101"
                ),
            ),
            InvertedResidual2(
                71,
                69,
                61,
                61,
                order=(
                    "111001010010101010010110111010100110110110100100101101010101010101"
                    "10011010101011010000000010001011101011001101001100110101"
                ),
            ),
            InvertedResidual2(
                56,
                74,
                71,
                66,
                order=(
                    "101101011101001111011101011011101010000101011010101011010101010101"
                    "100101010010011010100101000101001010100110101010101110101011100101"
                    "01000"
                ),
            ),
            InvertedResidual2(
                69,
                71,
                64,
                68,
                order=(
                    "010011010110101010110101011010010101010001101100100101010101101101"
                    "111010010011010101010100110100001001001001000100110101001101010101"
                ),
            ),
            InvertedResidual2(
                68,
                61,
                59,
                64,
                order=(
                    "101001101001010100111000100011000100010101001110010101101101011100"
                    "101010010110010101010111010010110011000101010001010101101"
                ),
            ),
            InvertedResidual2(
                58,
                71,
                75,
                65,
                order=(
                    "101101010110101010101011100101010101010011011010101100101101010110"
                    "010110100101010101001010101101011010101010010101010010101010101011"
                    "00111111"
                ),
            ),
            InvertedResidual2(
                66,
                74,
                71,
                74,
                order=(
                    "101001111000001001101001001110010101010011101101010100010101010010"
                    "101011001011101101101010100011010101001010000010111000010101111010"
                    "1100100001111"
                ),
            ),
        )
        self.stage4 = nn.Sequential(
            InvertedResidual(
                145,
                144,
                155,
                138,
                order=(
                    "000010001010111010001011101100111101001101010100101010100101010100"
                    "010110111010010101110101100101010101001001001010101001101010010100"
                    "100110101100010010010101110001101101010110101010000101010110010001"
                    "010110101110101101101110011010100010101010101010010010111011001101"
                    "011010101001010100"
                ),
            ),
            InvertedResidual2(
                139,
                147,
                138,
                143,
                order=(
                    "010101010101100010101111010110101010101110101011101011011011101101"
                    "010100010101010101101011010101010100010101011100010010110110101010"
                    "101011010011100101011010101011010101010101000110110110101000001000"
                    "000001110100101100110010101000010100101010100100010110010101011001"
                    "01110100010010010"
                ),
            ),
            InvertedResidual2(
                141,
                144,
                143,
                140,
                order=(
                    "011010010110001010001100111010101010101011010110101001011001011101"
                    "110110101001001111110110001010100101000101010111101010001010100101"
                    "001110001110101011011010011101010100010101100101010010101010010100"
                    "101000100101010101110101011010110001110110100010101110110101010101"
                    "0101010100100110010"
                ),
            ),
            InvertedResidual2(
                144,
                144,
                145,
                139,
                order=(
                    "010110000101101110101101010010000011010110101010111000101001010100"
                    "001010101011001011101101111001001010110101001100101010011011000101"
                    "101010110100101010101010100101011011011010110101110101011101100100"
                    "010101110101101011010001010011010101100101010110101010101010000110"
                    "11010101010101010011"
                ),
            ),
        )
        self.conv5 = nn.Sequential(
            nn.Conv2d(284, 647, 1, bias=False),
            nn.BatchNorm2d(647),
            nn.ReLU(inplace=True),
        )
        self.fc = nn.Linear(647, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.maxpool(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.stage4(x)
        x = self.conv5(x)
        x = x.mean([2, 3])
        return self.fc(x)


def shufflenet_v2_x1_0(weights: str | None = None, **arguments: int) -> ShuffleNetV2:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = ShuffleNetV2(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
