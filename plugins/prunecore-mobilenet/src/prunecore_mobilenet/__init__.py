"""Inverted residual blocks, for prunecore: torchvision's, and the user's own by a decorator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from prunecore.plugin import (
    BlockSource,
    Channels,
    DecoratedBlocks,
    LazyClasses,
    Signal,
    Writer,
    hookimpl,
)
from prunecore_mobilenet import (
    efficientnet,
    mnasnet,
    mobilenet_v2,
    mobilenet_v3,
    squeeze_excitation,
    stochastic_depth,
)
from prunecore_mobilenet.kinds import Kind

__all__ = ["mb_conv"]

BLOCKS = DecoratedBlocks()
mb_conv = BLOCKS.decorator("mb_conv", "a block class of pointwise and depthwise convolutions")

_TORCHVISION = LazyClasses(
    {
        "torchvision.models.mobilenetv2.InvertedResidual": mobilenet_v2.KIND,
        "torchvision.models.mnasnet._InvertedResidual": mnasnet.KIND,
        "torchvision.models.mobilenetv3.InvertedResidual": mobilenet_v3.KIND,
        "torchvision.models.efficientnet.MBConv": efficientnet.MB_CONV,
        "torchvision.models.efficientnet.FusedMBConv": efficientnet.FUSED_MB_CONV,
        squeeze_excitation.CLASS: squeeze_excitation.KIND,
        stochastic_depth.CLASS: stochastic_depth.KIND,
    }
)


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's blocks of mobile networks, and every decorated class."""
    return [*_TORCHVISION, *BLOCKS]


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Signal, ...], channels: Channels
) -> Any:
    """The branch and the shortcut are coupled where they meet."""
    usual = _usual(block)
    if usual is not None:
        kind, _ = usual
        return kind.calculate(block, inputs[0], channels)
    return channels.trace(block, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """torchvision's blocks as a person would write them; any other as its forward is."""
    usual = _usual(block)
    if usual is not None:
        kind, layers = usual
        return kind.write(block, layers, writer)
    return writer.trace(block, name)


def _usual(block: nn.Module) -> tuple[Kind, Any] | None:
    """The kind of a torchvision block and its layers, if those are as usual."""
    if BLOCKS.description(block) is not None:  # complains about a name that is not there
        return None
    kind = _TORCHVISION.get(block)
    if kind is None or block._parameters or block._buffers:  # a derived class may have its own
        return None
    layers = kind.read(block)
    return None if layers is None else (kind, layers)
