"""EfficientNet's blocks."""

from __future__ import annotations

from torch import Tensor, nn

from prunecore_mobilenet.written.common import (
    SqueezeExcitation,
    StochasticDepth,
    conv_norm,
)


class MBConv(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel_size: int,
        squeeze: int,
        stride: int = 1,
        expand: bool = True,
        drop: float | None = None,  # None where there is no shortcut
    ) -> None:
        super().__init__()
        layers = []
        if expand:
            expansion = nn.Conv2d(in_channels, width, 1, bias=False)
            layers.append(conv_norm(expansion, nn.SiLU(inplace=True)))
        depthwise = nn.Conv2d(
            width,
            width,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=width,
            bias=False,
        )
        self.block = nn.Sequential(
            *layers,
            conv_norm(depthwise, nn.SiLU(inplace=True)),
            SqueezeExcitation(width, squeeze),
            conv_norm(nn.Conv2d(width, out_channels, 1, bias=False)),
        )
        self.use_res_connect = drop is not None
        if drop is not None:
            self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block(x)
        if self.use_res_connect:
            out = self.stochastic_depth(out) + x
        return out


class FusedMBConv(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        expand: bool = True,
        drop: float | None = None,  # None where there is no shortcut
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(
            in_channels,
            width,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=False,
        )
        layers = [conv_norm(conv, nn.SiLU(inplace=True))]
        if expand:
            layers.append(conv_norm(nn.Conv2d(width, out_channels, 1, bias=False)))
        self.block = nn.Sequential(*layers)
        self.use_res_connect = drop is not None
        if drop is not None:
            self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block(x)
        if self.use_res_connect:
            out = self.stochastic_depth(out) + x
        return out
