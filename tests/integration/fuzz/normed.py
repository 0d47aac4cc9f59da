"""The network of the hostile weights."""

import torch
from torch import Tensor, nn


class Normed(nn.Module):
    """Two convolutions, a norm, and a buffer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 1)
        self.bn = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 2, 1)
        self.register_buffer("scale", torch.ones(2, 1, 1))
        self.register_buffer("mask", torch.zeros(2, 1, 1, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        return (self.last(self.bn(self.conv(x))) * self.scale).masked_fill(self.mask, 0)
