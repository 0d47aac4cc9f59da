"""What the blocks of several networks are made of."""

from __future__ import annotations

from torch import Tensor, nn


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


def conv_norm(conv: nn.Conv2d, *activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, batch_norm(conv.out_channels), *activation)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(scale)) * x


class StochasticDepth(nn.Module):
    def __init__(self, p: float, mode: str = "row") -> None:
        super().__init__()
        self.p = p
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        rows = x.shape[0] if self.mode == "row" else 1
        survival = 1 - self.p
        noise = x.new_empty([rows] + [1] * (x.ndim - 1)).bernoulli_(survival)
        return x * (noise / survival if survival > 0 else noise)
