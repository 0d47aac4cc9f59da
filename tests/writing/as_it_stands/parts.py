"""What the tests take the text of; the classes of `test_class_text` use it, too."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from fractions import Fraction

SIZE = 3


def later(x: Tensor) -> Tensor:
    return earlier(x)


def earlier(x: Tensor) -> Tensor:
    return x * math.pi


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


class Ümlaut(nn.Module):
    """Its name takes more bytes than letters."""

    def forward(self, x: Tensor) -> Tensor:
        return earlier(x) + later(x)


class Layers(nn.Module):
    def __init__(self, widths: Sequence[int], share: Fraction | None = None) -> None:
        super().__init__()
        layers = [norm(width) for width in widths]
        self.layers = nn.Sequential(*layers, nn.ReLU(), Ümlaut())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) if isinstance(x, torch.Tensor) else x


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.size = SIZE


class Counted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * np.pi


@functools.cache
def cached(size: int) -> int:
    return size


class Cached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * cached(3)


class Lost(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * nowhere  # type: ignore[name-defined] # noqa: F821


class Named(nn.Module):
    def forward(self, x: Tensor, norm: int = 0) -> Tensor:
        return x * norm


class Said(nn.Module):
    def forward(self, x: Tensor) -> str:
        return f"{earlier(x)}"


class Holder:
    class Inner(nn.Module):
        pass
