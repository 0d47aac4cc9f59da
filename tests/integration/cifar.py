"""Networks for small images as users write them, each block in its family's care by decorator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore_googlenet import inception
from prunecore_mobilenet import mb_conv
from prunecore_squeezenet import fire


@mb_conv(lType="mb_conv", convs=["conv1", "conv2", "conv3"], downsampling=["shortcut"])
class MobileBlock(nn.Module):
    """Widen, filter by depth, narrow; a shortcut with layers where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, expand: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        width = expand * in_channels
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride == 1 and in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu6(self.bn1(self.conv1(x)))
        out = F.relu6(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return out + self.shortcut(x) if self.stride == 1 else out


class MobileNetV2(nn.Module):
    """Sandler et al.'s network with the strides of small images."""

    # expansion, width, number of blocks, stride of the first
    STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    LAST_STAGES = ((6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks, width = [], 32
        for expand, out_channels, number, first_stride in (*self.STAGES, *self.LAST_STAGES):
            for stride in [first_stride] + [1] * (number - 1):
                blocks.append(MobileBlock(width, out_channels, expand, stride))
                width = out_channels
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(320, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu6(self.bn1(self.conv1(x)))
        out = self.layers(out)
        out = F.relu6(self.bn2(self.conv2(out)))
        out = F.avg_pool2d(out, 4)
        out = out.view(out.size(0), -1)
        return self.linear(out)


@fire(lType="fire", convs=["squeeze", "left", "right"])
class FireBlock(nn.Module):
    """Squeeze, then filter by one and by three, side by side, with batch norms."""

    def __init__(self, in_channels: int, squeeze: int, out_channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.bn1 = nn.BatchNorm2d(squeeze)
        self.left = nn.Conv2d(squeeze, out_channels // 2, 1)
        self.bn2 = nn.BatchNorm2d(out_channels // 2)
        self.right = nn.Conv2d(squeeze, out_channels // 2, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(out_channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.squeeze(x)))
        return F.relu(torch.cat([self.bn2(self.left(x)), self.bn3(self.right(x))], dim=1))


class SqueezeNet(nn.Module):
    """Iandola et al.'s network with bypasses, as they are in its paper, for small images."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 96, 3, padding=1)
        self.fire2 = FireBlock(96, 16, 128)
        self.fire3 = FireBlock(128, 16, 128)
        self.fire4 = FireBlock(128, 32, 256)
        self.fire5 = FireBlock(256, 32, 256)
        self.fire6 = FireBlock(256, 48, 384)
        self.fire7 = FireBlock(384, 48, 384)
        self.fire8 = FireBlock(384, 64, 512)
        self.fire9 = FireBlock(512, 64, 512)
        self.last = nn.Conv2d(512, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire2(F.max_pool2d(F.relu(self.stem(x)), 2))
        x = F.max_pool2d(self.fire4(self.fire3(x) + x), 2)
        x = self.fire6(self.fire5(x) + x)
        x = F.max_pool2d(self.fire8(self.fire7(x) + x), 2)
        x = self.last(F.dropout(self.fire9(x) + x, training=self.training))
        return F.adaptive_avg_pool2d(F.relu(x), 1).flatten(1)


@inception(lType="inception", convs=["b1", "b2", "b3", "b4"])
class InceptionBlock(nn.Module):
    """Four branches of convolutions, norms and activations, side by side."""

    def __init__(self, in_channels: int, *widths: int) -> None:
        super().__init__()
        one, three_in, three, five_in, five, pooled = widths
        self.b1 = nn.Sequential(*self.layers(in_channels, one, 1))
        self.b2 = nn.Sequential(
            *self.layers(in_channels, three_in, 1), *self.layers(three_in, three, 3)
        )
        self.b3 = nn.Sequential(
            *self.layers(in_channels, five_in, 1),
            *self.layers(five_in, five, 3),
            *self.layers(five, five, 3),
        )
        self.b4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), *self.layers(in_channels, pooled, 1))

    @staticmethod
    def layers(in_channels: int, out_channels: int, kernel: int) -> list[nn.Module]:
        convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(True)]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b1(x), self.b2(x), self.b3(x), self.b4(x)], 1)


class GoogLeNet(nn.Module):
    """Szegedy et al.'s network without the first strides and the auxiliary heads."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.pre_layers = nn.Sequential(*InceptionBlock.layers(3, 192, 3))
        self.a3 = InceptionBlock(192, 64, 96, 128, 16, 32, 32)
        self.b3 = InceptionBlock(256, 128, 128, 192, 32, 96, 64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.a4 = InceptionBlock(480, 192, 96, 208, 16, 48, 64)
        self.b4 = InceptionBlock(512, 160, 112, 224, 24, 64, 64)
        self.a5 = InceptionBlock(512, 256, 160, 320, 32, 128, 128)
        self.avgpool = nn.AvgPool2d(4)
        self.linear = nn.Linear(832, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.b3(self.a3(self.maxpool(self.pre_layers(x))))
        out = self.b4(self.a4(self.maxpool(out)))
        out = self.avgpool(self.a5(self.maxpool(out)))
        return self.linear(out.view(out.size(0), -1))
