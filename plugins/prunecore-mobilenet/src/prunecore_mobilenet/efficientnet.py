"""EfficientNet's `MBConv` and `FusedMBConv`: how channels run through, and how they are written.

After Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019,
arXiv 1905.11946, and "EfficientNetV2: Smaller Models and Faster Training", 2021, arXiv 2104.00298;
and torchvision's `efficientnet.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer
from prunecore_mobilenet import squeeze_excitation, stochastic_depth
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.layers import (
    Branch,
    Step,
    as_written,
    is_pointwise,
    numbered,
    read_branch,
    read_steps,
)
from prunecore_mobilenet.written.efficientnet import FusedMBConv, MBConv

_SQUEEZE = squeeze_excitation.activations(nn.SiLU(inplace=True), nn.Sigmoid())
_DEFAULTS = {"stride": 1, "expand": True, "drop": None}


def _read_mb_conv(block: Any) -> Branch | None:
    """The layers of an `MBConv` that has the usual ones."""
    *stages, projection = numbered(block.block) or [None]
    if not stages or not squeeze_excitation.is_of(stages[-1], _SQUEEZE):
        return None
    parts = [*map(numbered, stages[:-1]), numbered(projection)]
    branch = read_branch(parts, [nn.SiLU], stages[-1])
    is_usual = branch is not None and branch.depthwise.dilation == (1, 1)
    return branch if is_usual and _is_usual_shortcut(block) else None


def _read_fused(block: Any) -> list[Step] | None:
    """The steps of a `FusedMBConv` that has the usual ones."""
    steps = read_steps([numbered(stage) for stage in numbered(block.block)], [nn.SiLU])
    if len(steps) not in (1, 2) or not _is_usual_shortcut(block):
        return None
    first, *projection = steps
    is_usual = (
        first.conv.groups == 1
        and first.conv.dilation == (1, 1)
        and first.activation is not None
        and all(is_pointwise(step.conv) and step.activation is None for step in projection)
    )
    return steps if is_usual else None


def _is_usual_shortcut(block: Any) -> bool:
    return not block.use_res_connect or stochastic_depth.drops_rows(block.stochastic_depth)


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """The shortcut, where there is one, is coupled with what the branch returns."""
    out: Signal = channels.through(block.block, x)
    if not block.use_res_connect:
        return out
    return channels.couple(channels.through(block.stochastic_depth, out), x)


def _write_mb_conv(block: Any, layers: Branch, writer: Writer) -> BlockSource:
    by_place = (*layers.widths(writer), layers.depthwise.kernel_size[0])
    keywords = {
        "squeeze": writer.width(layers.squeeze.fc1.weight, 0),  # type: ignore[union-attr]
        "stride": layers.depthwise.stride[0],
        "expand": layers.expansion is not None,
        "drop": _drop(block),
    }
    constructor = Call("MBConv", by_place, keywords, _DEFAULTS)
    return writer.source(constructor, MBConv, as_written(layers.norm) | _SQUEEZE)


def _write_fused(block: Any, steps: list[Step], writer: Writer) -> BlockSource:
    first, last = steps[0].conv, steps[-1].conv
    widths = (
        writer.width(first.weight, 1),
        writer.width(first.weight, 0),
        writer.width(last.weight, 0),
    )
    keywords = {"stride": first.stride[0], "expand": len(steps) == 2, "drop": _drop(block)}
    by_place = (*widths, first.kernel_size[0])
    constructor = Call("FusedMBConv", by_place, keywords, _DEFAULTS)
    return writer.source(constructor, FusedMBConv, as_written(steps[0].norm))


def _drop(block: Any) -> float | None:
    """How often training leaves the branch out; `None` for a block without a shortcut."""
    return block.stochastic_depth.p if block.use_res_connect else None


MB_CONV = Kind(_read_mb_conv, _calculate, _write_mb_conv)
FUSED_MB_CONV = Kind(_read_fused, _calculate, _write_fused)
