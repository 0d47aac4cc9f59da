"""MobileNetV2's `InvertedResidual`: how channels run through, and how it is written.

After Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, arXiv
1801.04381, and torchvision's `mobilenetv2.py`.
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
    stages = numbered(block.conv)
    branch = read_branch([*map(numbered, stages[:-2]), stages[-2:]], [nn.ReLU6])
    is_usual = branch is not None and (
        branch.depthwise.kernel_size == (3, 3) and branch.depthwise.dilation == (1, 1)
    )
    return branch if is_usual else None


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """The shortcut, where there is one, is coupled with what the branch returns."""
    out: Signal = channels.through(block.conv, x)
    return channels.couple(x, out) if block.use_res_connect else out


def _write(block: Any, layers: Branch, writer: Writer) -> BlockSource:
    definitions = Definitions(writer)
    name = definitions.add(
        "InvertedResidual",
        _TEXT,
        conv_norm=definitions.conv_norm(layers.norm),
        norm=definitions.batch_norm(layers.norm),
    )
    keywords = {
        "stride": layers.depthwise.stride[0],
        "expand": layers.expansion is not None,
        "skip": block.use_res_connect,
    }
    defaults = {"stride": 1, "expand": True, "skip": False}
    constructor = Call(name, layers.widths(writer), keywords, defaults)
    return BlockSource(constructor, definitions.texts)


KIND = Kind(_read, _calculate, _write)

_TEXT = """class {name}(nn.Module):
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
            layers.append({conv_norm}(expansion, nn.ReLU6(inplace=True)))
        depthwise = nn.Conv2d(
            width, width, 3, stride=stride, padding=1, groups=width, bias=False
        )
        self.conv = nn.Sequential(
            *layers,
            {conv_norm}(depthwise, nn.ReLU6(inplace=True)),
            nn.Conv2d(width, out_channels, 1, bias=False),
            {norm}(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)
"""
