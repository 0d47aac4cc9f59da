"""A network of a user's own that has what torchvision's classifiers lack.

Two inputs and a dictionary as output; lists and dictionaries of modules, a module that is called
twice, a parameter and a buffer of its own, numbers and arguments with defaults.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = [16, 24, 32]
SHAPES = ((3, 32, 32), (6,))  # an image, and what else is known of it


class ConvNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1, slope: float = 0.1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), self.slope)


class Stage(nn.Module):
    """Half the size, a residual, and a gate if there is one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = ConvNorm(inputs, outputs, stride=2)
        self.residual = nn.Sequential(
            ConvNorm(outputs, outputs // 2), nn.Conv2d(outputs // 2, outputs, 1)
        )

    def forward(self, x: Tensor, gate: Tensor | None = None, strength: float = 1.0) -> Tensor:
        x = self.down(x)
        x = x + self.residual(x)
        return x if gate is None else x * (1 + strength * gate[:, :, None, None])


class Detector(nn.Module):
    def __init__(self, classes: int = 5, width: int = 20) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.scale = nn.Parameter(torch.ones(width, 1, 1))
        self.stem = ConvNorm(3, 12, slope=0.2)
        self.stages = nn.ModuleList(
            Stage(inputs, outputs) for inputs, outputs in zip([12, *WIDTHS], WIDTHS, strict=False)
        )
        self.gate = nn.Linear(6, WIDTHS[-1])
        self.lateral = nn.ModuleList(nn.Conv2d(outputs, width, 1) for outputs in WIDTHS)
        self.smooth = ConvNorm(width, width)
        self.heads = nn.ModuleDict(
            {"scores": nn.Conv2d(width, classes, 1), "boxes": nn.Conv2d(width, 4, 1)}
        )

    def forward(self, image: Tensor, known: Tensor) -> dict[str, Tensor]:
        x = self.stem(image - self.mean)
        features = []
        for number, stage in enumerate(self.stages):
            is_last = number == len(self.stages) - 1
            x = stage(x, torch.sigmoid(self.gate(known)), 0.5) if is_last else stage(x)
            features.append(x)

        fine, middle, coarse = [
            lateral(x) for lateral, x in zip(self.lateral, features, strict=True)
        ]
        _, _, height, width = middle.shape
        middle = self.smooth(middle + F.interpolate(coarse, size=(height, width)))
        fine = self.smooth(fine + F.interpolate(middle, scale_factor=2)) * self.scale
        return {name: head(fine) for name, head in self.heads.items()}
