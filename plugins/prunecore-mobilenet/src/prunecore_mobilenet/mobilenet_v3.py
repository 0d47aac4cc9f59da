"""MobileNetV3's `InvertedResidual`: how channels run through, and how it is written.

After Howard et al., "Searching for MobileNetV3", 2019, arXiv 1905.02244, and torchvision's
`mobilenetv3.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Name, Signal, Writer
from prunecore_mobilenet import squeeze_excitation
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.layers import Branch, as_written, numbered, read_branch
from prunecore_mobilenet.written.mobilenet_v3 import InvertedResidual, WithoutSqueeze

_SQUEEZE = squeeze_excitation.activations(nn.ReLU(), nn.Hardsigmoid())


def _read(block: Any) -> Branch | None:
    """The layers of a block that has the usual ones."""
    *stages, projection = numbered(block.block) or [None]
    squeeze = None
    if stages and squeeze_excitation.is_of(stages[-1], _SQUEEZE):
        squeeze = stages.pop()
    parts = [*map(numbered, stages), numbered(projection)]
    return read_branch(parts, [nn.ReLU, nn.Hardswish], squeeze)


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """The shortcut, where there is one, is coupled with what the branch returns."""
    out: Signal = channels.through(block.block, x)
    return channels.couple(out, x) if block.use_res_connect else out


def _write(block: Any, layers: Branch, writer: Writer) -> BlockSource:
    depthwise = layers.depthwise
    activation = Name(f"nn.{layers.activation.__name__}")
    squeeze_width = None if layers.squeeze is None else writer.width(layers.squeeze.fc1.weight, 0)
    keywords = {
        "squeeze": squeeze_width,
        "stride": depthwise.stride[0],
        "dilation": depthwise.dilation[0],
        "expand": layers.expansion is not None,
        "skip": block.use_res_connect,
    }
    defaults = {"squeeze": None, "stride": 1, "dilation": 1, "expand": True, "skip": False}
    by_place = (*layers.widths(writer), depthwise.kernel_size[0], activation)
    constructor = Call("InvertedResidual", by_place, keywords, defaults)
    if any(squeeze_excitation.is_of(module, _SQUEEZE) for module in writer.keep.model.modules()):
        return writer.source(constructor, InvertedResidual, as_written(layers.norm) | _SQUEEZE)
    return writer.source(constructor, WithoutSqueeze, as_written(layers.norm))


KIND = Kind(_read, _calculate, _write)
