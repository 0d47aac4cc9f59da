"""Detector without 50 % of its parameters: 27.59 -> 13.76 k, 3.02 -> 1.60 MMACs.

Written by prunecore (random, level 50) from networks.detector. Edit freely.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNorm(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, slope: float, stride: int = 1
    ) -> None:
        super().__init__()
        self.slope = slope
        self.conv = nn.Conv2d(
            in_channels, out_channels, 3, stride=stride, padding=1, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), negative_slope=self.slope)


class Stage(nn.Module):
    def __init__(self, in_channels: int, width: int, out_channels: int) -> None:
        super().__init__()
        self.down = ConvNorm(in_channels, out_channels, slope=0.1, stride=2)
        self.residual = nn.Sequential(
            ConvNorm(out_channels, width, slope=0.1),
            nn.Conv2d(width, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.residual(x)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = ConvNorm(13, 27, slope=0.1, stride=2)
        self.residual = nn.Sequential(ConvNorm(27, 11, slope=0.1), nn.Conv2d(11, 27, 1))

    def forward(self, x: Tensor, gate: Tensor, strength: float = 1.0) -> Tensor:
        x = self.down(x)
        return (x + self.residual(x)) * (1 + strength * gate[:, :, None, None])


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(14, 1, 1))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.stem = ConvNorm(3, 9, slope=0.2)
        self.stages = nn.ModuleList([Stage(9, 6, 12), Stage(12, 9, 13), Stage2()])
        self.gate = nn.Linear(6, 27)
        self.lateral = nn.ModuleList(
            [nn.Conv2d(12, 14, 1), nn.Conv2d(13, 14, 1), nn.Conv2d(27, 14, 1)]
        )
        self.smooth = ConvNorm(14, 14, slope=0.1)
        self.heads = nn.ModuleDict(
            {"scores": nn.Conv2d(14, 5, 1), "boxes": nn.Conv2d(14, 4, 1)}
        )

    def forward(self, image: Tensor, known: Tensor) -> dict[str, Tensor]:
        x = self.stem(image - self.mean)
        x = self.stages[0](x)
        stage1 = self.stages[1](x)
        out = torch.sigmoid(self.gate(known))
        out = self.stages[2](stage1, out, 0.5)
        fine = self.lateral[0](x)
        middle = self.lateral[1](stage1)
        coarse = self.lateral[2](out)
        _, _, height, width = middle.shape
        middle = middle + F.interpolate(coarse, size=(height, width))
        middle = self.smooth(middle)
        fine = fine + F.interpolate(middle, scale_factor=2)
        fine = self.smooth(fine) * self.scale
        return {
            "scores": self.heads["scores"](fine),
            "boxes": self.heads["boxes"](fine),
        }


def detector(weights: str | None = None, **arguments: int) -> Detector:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = Detector(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
