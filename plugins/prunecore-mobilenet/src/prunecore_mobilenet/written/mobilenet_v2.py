"""MobileNetV2's block."""

from __future__ import annotations

from torch import Tensor, nn

from prunecore_mobilenet.written.common import batch_norm, conv_norm


class InvertedResidual(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int = 1,
        expand: bool = True,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.use_res_connect = skip
        layers = []
        if expand:
            expansion = nn.Conv2d(in_channels, width, 1, bias=False)
            layers.append(conv_norm(expansion, nn.ReLU6(inplace=True)))
        depthwise = nn.Conv2d(
            width, width, 3, stride=stride, padding=1, groups=width, bias=False
        )
        self.conv = nn.Sequential(
            *layers,
            conv_norm(depthwise, nn.ReLU6(inplace=True)),
            nn.Conv2d(width, out_channels, 1, bias=False),
            batch_norm(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)
