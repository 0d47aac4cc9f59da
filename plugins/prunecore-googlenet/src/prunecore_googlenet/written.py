"""torchvision's blocks as they are written: a class's text here is its text in a written file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicConv2d(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, **kwargs: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, ch1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, ch3x3red, kernel_size=1),
            BasicConv2d(ch3x3red, ch3x3, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, ch5x5red, kernel_size=1),
            BasicConv2d(ch5x5red, ch5x5, kernel_size=3, padding=1),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(in_channels, pool_proj, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        branch1 = self.branch1(x)
        branch2 = self.branch2(x)
        branch3 = self.branch3(x)
        branch4 = self.branch4(x)
        return torch.cat([branch1, branch2, branch3, branch4], 1)


class InceptionA(nn.Module):
    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch5x5: list[int],
        ch3x3dbl: list[int],
        pool_features: int,
    ) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, ch1x1, kernel_size=1)

        c1, c2 = ch5x5
        self.branch5x5_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch5x5_2 = BasicConv2d(c1, c2, kernel_size=5, padding=2)

        c1, c2, c3 = ch3x3dbl
        self.branch3x3dbl_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(c1, c2, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(c2, c3, kernel_size=3, padding=1)

        self.branch_pool = BasicConv2d(in_channels, pool_features, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        branch1x1 = self.branch1x1(x)

        branch5x5 = self.branch5x5_2(self.branch5x5_1(x))

        branch3x3dbl = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branch3x3dbl = self.branch3x3dbl_3(branch3x3dbl)

        branch_pool = self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1))

        return torch.cat([branch1x1, branch5x5, branch3x3dbl, branch_pool], 1)


class InceptionB(nn.Module):
    def __init__(self, in_channels: int, ch3x3: int, ch3x3dbl: list[int]) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(in_channels, ch3x3, kernel_size=3, stride=2)

        c1, c2, c3 = ch3x3dbl
        self.branch3x3dbl_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(c1, c2, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(c2, c3, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        branch3x3 = self.branch3x3(x)

        branch3x3dbl = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branch3x3dbl = self.branch3x3dbl_3(branch3x3dbl)

        branch_pool = F.max_pool2d(x, 3, stride=2)

        return torch.cat([branch3x3, branch3x3dbl, branch_pool], 1)


class InceptionC(nn.Module):
    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch7x7: list[int],
        ch7x7dbl: list[int],
        pool_features: int,
    ) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, ch1x1, kernel_size=1)

        c1, c2, c3 = ch7x7
        self.branch7x7_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch7x7_2 = BasicConv2d(c1, c2, kernel_size=(1, 7), padding=(0, 3))
        self.branch7x7_3 = BasicConv2d(c2, c3, kernel_size=(7, 1), padding=(3, 0))

        c1, c2, c3, c4, c5 = ch7x7dbl
        self.branch7x7dbl_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch7x7dbl_2 = BasicConv2d(c1, c2, kernel_size=(7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = BasicConv2d(c2, c3, kernel_size=(1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = BasicConv2d(c3, c4, kernel_size=(7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = BasicConv2d(c4, c5, kernel_size=(1, 7), padding=(0, 3))

        self.branch_pool = BasicConv2d(in_channels, pool_features, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        branch1x1 = self.branch1x1(x)

        branch7x7 = self.branch7x7_2(self.branch7x7_1(x))
        branch7x7 = self.branch7x7_3(branch7x7)

        branch7x7dbl = self.branch7x7dbl_2(self.branch7x7dbl_1(x))
        branch7x7dbl = self.branch7x7dbl_4(self.branch7x7dbl_3(branch7x7dbl))
        branch7x7dbl = self.branch7x7dbl_5(branch7x7dbl)

        branch_pool = self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1))

        return torch.cat([branch1x1, branch7x7, branch7x7dbl, branch_pool], 1)


class InceptionD(nn.Module):
    def __init__(self, in_channels: int, ch3x3: list[int], ch7x7x3: list[int]) -> None:
        super().__init__()
        c1, c2 = ch3x3
        self.branch3x3_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch3x3_2 = BasicConv2d(c1, c2, kernel_size=3, stride=2)

        c1, c2, c3, c4 = ch7x7x3
        self.branch7x7x3_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch7x7x3_2 = BasicConv2d(c1, c2, kernel_size=(1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(c2, c3, kernel_size=(7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(c3, c4, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        branch3x3 = self.branch3x3_2(self.branch3x3_1(x))

        branch7x7x3 = self.branch7x7x3_2(self.branch7x7x3_1(x))
        branch7x7x3 = self.branch7x7x3_4(self.branch7x7x3_3(branch7x7x3))

        branch_pool = F.max_pool2d(x, 3, stride=2)

        return torch.cat([branch3x3, branch7x7x3, branch_pool], 1)


class InceptionE(nn.Module):
    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3: list[int],
        ch3x3dbl: list[int],
        pool_features: int,
    ) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, ch1x1, kernel_size=1)

        c1, c2a, c2b = ch3x3
        self.branch3x3_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch3x3_2a = BasicConv2d(c1, c2a, kernel_size=(1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(c1, c2b, kernel_size=(3, 1), padding=(1, 0))

        c1, c2, c3a, c3b = ch3x3dbl
        self.branch3x3dbl_1 = BasicConv2d(in_channels, c1, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(c1, c2, kernel_size=3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(c2, c3a, kernel_size=(1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(c2, c3b, kernel_size=(3, 1), padding=(1, 0))

        self.branch_pool = BasicConv2d(in_channels, pool_features, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        branch1x1 = self.branch1x1(x)

        branch3x3 = self.branch3x3_1(x)
        branch3x3 = [self.branch3x3_2a(branch3x3), self.branch3x3_2b(branch3x3)]
        branch3x3 = torch.cat(branch3x3, 1)

        branch3x3dbl = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branch3x3dbl = [
            self.branch3x3dbl_3a(branch3x3dbl),
            self.branch3x3dbl_3b(branch3x3dbl),
        ]
        branch3x3dbl = torch.cat(branch3x3dbl, 1)

        branch_pool = self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1))

        return torch.cat([branch1x1, branch3x3, branch3x3dbl, branch_pool], 1)
