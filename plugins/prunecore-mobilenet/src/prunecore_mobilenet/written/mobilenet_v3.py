"""MobileNetV3's block, and that of a network without squeeze-excitation."""

from __future__ import annotations

from torch import Tensor, nn

from prunecore_mobilenet.written.common import SqueezeExcitation, conv_norm


class InvertedResidual(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel_size: int,
        activation: type[nn.Module],
        squeeze: int | None = None,
        stride: int = 1,
        dilation: int = 1,
        expand: bool = True,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.use_res_connect = skip
        layers = []
        if expand:
            expansion = nn.Conv2d(in_channels, width, 1, bias=False)
            layers.append(conv_norm(expansion, activation(inplace=True)))
        depthwise = nn.Conv2d(
            width,
            width,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=width,
            bias=False,
        )
        layers.append(conv_norm(depthwise, activation(inplace=True)))
        if squeeze is not None:
            layers.append(SqueezeExcitation(width, squeeze))
        layers.append(conv_norm(nn.Conv2d(width, out_channels, 1, bias=False)))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.use_res_connect else self.block(x)


class WithoutSqueeze(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel_size: int,
        activation: type[nn.Module],
        stride: int = 1,
        dilation: int = 1,
        expand: bool = True,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.use_res_connect = skip
        layers = []
        if expand:
            expansion = nn.Conv2d(in_channels, width, 1, bias=False)
            layers.append(conv_norm(expansion, activation(inplace=True)))
        depthwise = nn.Conv2d(
            width,
            width,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=width,
            bias=False,
        )
        layers.append(conv_norm(depthwise, activation(inplace=True)))
        layers.append(conv_norm(nn.Conv2d(width, out_channels, 1, bias=False)))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.use_res_connect else self.block(x)
