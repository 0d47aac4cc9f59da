"""MNASNet's `_InvertedResidual`: how channels run through, and how it is written.

After Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", 2019, arXiv
1807.11626, and torchvision's `mnasnet.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer
from prunecore_mobilenet.definitions import Definitions
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.layers import Branch, numbered, read_branch


def _read(block: Any) -> Branch | None:
    """The layers of a block that has the usual ones."""
    layers = numbered(block.layers)
    branch = read_branch([layers[:3], layers[3:6], layers[6:]], [nn.ReLU])
    is_usual = branch is not None and branch.depthwise.dilation == (1, 1)
    return branch if is_usual else None


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """The shortcut, where there is one, is coupled with what the branch returns."""
    out: Signal = channels.through(block.layers, x)
    return channels.couple(out, x) if block.apply_residual else out


def _write(block: Any, layers: Branch, writer: Writer) -> BlockSource:
    definitions = Definitions(writer)
    norm = definitions.batch_norm(layers.norm)
    name = definitions.add("_InvertedResidual", _TEXT, norm=norm)
    by_place = (*layers.widths(writer), layers.depthwise.kernel_size[0])
    keywords = {"stride": layers.depthwise.stride[0], "skip": block.apply_residual}
    constructor = Call(name, by_place, keywords, {"stride": 1, "skip": False})
    return BlockSource(constructor, definitions.texts)


KIND = Kind(_read, _calculate, _write)

_TEXT = """class {name}(nn.Module):
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
            {norm}(width),
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
            {norm}(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False),
            {norm}(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.apply_residual else self.layers(x)
"""
