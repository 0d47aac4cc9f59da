"""MNASNet's `_InvertedResidual`: how channels run through, and how it is written.

After Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", 2019, arXiv
1807.11626, and torchvision's `mnasnet.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.layers import Branch, as_written, numbered, read_branch
from prunecore_mobilenet.written.mnasnet import _InvertedResidual


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
    by_place = (*layers.widths(writer), layers.depthwise.kernel_size[0])
    keywords = {"stride": layers.depthwise.stride[0], "skip": block.apply_residual}
    constructor = Call("_InvertedResidual", by_place, keywords, {"stride": 1, "skip": False})
    return writer.source(constructor, _InvertedResidual, as_written(layers.norm))


KIND = Kind(_read, _calculate, _write)
