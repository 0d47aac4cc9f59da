"""MobileNetV2's `InvertedResidual`: how channels run through, and how it is written.

After Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, arXiv
1801.04381, and torchvision's `mobilenetv2.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.layers import Branch, as_written, numbered, read_branch
from prunecore_mobilenet.written.mobilenet_v2 import InvertedResidual


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
    keywords = {
        "stride": layers.depthwise.stride[0],
        "expand": layers.expansion is not None,
        "skip": block.use_res_connect,
    }
    defaults = {"stride": 1, "expand": True, "skip": False}
    constructor = Call("InvertedResidual", layers.widths(writer), keywords, defaults)
    return writer.source(constructor, InvertedResidual, as_written(layers.norm))


KIND = Kind(_read, _calculate, _write)
