"""MNASNet's block."""

from __future__ import annotations

from torch import Tensor, nn

from prunecore_mobilenet.written.common import batch_norm


class _InvertedResidual(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.apply_residual = skip
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            batch_norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(
                width,
                width,
                kernel_size,
                stride=stride,
                padding=kernel_size // 2,
                groups=width,
                bias=False,
            ),
            batch_norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False),
            batch_norm(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.apply_residual else self.layers(x)
